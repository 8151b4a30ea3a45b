"""The one place that makes the source of secrets which an inventory names."""

from __future__ import annotations

from pathlib import Path

from ktrdr.deployment.homelab.inventory import Vault
from ktrdr.deployment.secrets.encrypted import AgeFile, SopsFile
from ktrdr.deployment.secrets.environment import PREFIX, EnvironmentVariables
from ktrdr.deployment.secrets.onepassword import OnePassword
from ktrdr.deployment.secrets.source import SecretSource


def source_of(secrets: Vault) -> SecretSource:
    """Where the secrets come from; nothing is asked for yet.

    Args:
        secrets: What the inventory says, as `inventory_file.load` has checked it.
    """
    if secrets.source == "environment":
        return EnvironmentVariables()
    if secrets.source == "1password":
        return OnePassword(secrets.vault, secrets.item)
    kind = AgeFile if secrets.source == "age" else SopsFile
    identity = Path(secrets.identity) if secrets.identity else None
    return kind(Path(secrets.file or ""), identity)


def described(secrets: Vault) -> str:
    """The same in words, for people."""
    if secrets.source == "environment":
        return f"the variables {PREFIX}…"
    if secrets.source == "1password":
        return f'the item "{secrets.item}" in the vault "{secrets.vault}" of 1Password'
    program = {"age": "age", "sops": "SOPS"}[secrets.source]
    return f"{secrets.file}, encrypted with {program}"
