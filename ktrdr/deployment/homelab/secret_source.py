"""Choice of the secret source that an inventory names."""

from __future__ import annotations

from pathlib import Path

from ktrdr.deployment.homelab.inventory import SecretSettings
from ktrdr.deployment.product import SecretSource
from ktrdr.deployment.secrets.command import CommandSource
from ktrdr.deployment.secrets.encrypted import AgeFile, SopsFile
from ktrdr.deployment.secrets.environment import PREFIX, EnvironmentSource
from ktrdr.deployment.secrets.onepassword import OnePassword


def make_source(settings: SecretSettings) -> SecretSource:
    """Create the secret source that an inventory names, without reading it."""
    fields, identity = settings.field_names, settings.identity
    match settings.source:
        case "environment":
            return EnvironmentSource()
        case "1password":
            account = settings.account
            return OnePassword(settings.vault, settings.item, account, fields=fields)
        case "command":
            return CommandSource(settings.command, fields=fields)
        case "age" | "sops" as kind:
            file_source = AgeFile if kind == "age" else SopsFile
            key = Path(identity) if identity else None
            return file_source(Path(settings.file or ""), key, fields=fields)


def describe_source(settings: SecretSettings) -> str:
    """Return the name of the source for messages."""
    match settings.source:
        case "environment":
            return f"the variables {PREFIX}…"
        case "1password":
            vault = f' in the vault "{settings.vault}"' if settings.vault else ""
            account = f", account {settings.account}" if settings.account else ""
            return f'the item "{settings.item}"{vault} of 1Password{account}'
        case "command":
            return f"the command {settings.command[0]}"
        case "age" | "sops" as program:
            return f"{settings.file}, encrypted with {program}"
