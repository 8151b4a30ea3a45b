"""Choice of the secret source that an inventory names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal, Protocol

from ktrdr.deployment.secrets.encrypted import AgeFile, SopsFile
from ktrdr.deployment.secrets.environment import PREFIX, EnvironmentSource
from ktrdr.deployment.secrets.onepassword import OnePassword
from ktrdr.secret import Secret


class SecretSource(Protocol):
    """Source of secrets by name."""

    def fetch(self) -> Mapping[str, Secret]:
        """Fetch all fields by name, with one call to the source.

        Raises:
            SecretsError: The secrets cannot be read; the message says why and how to fix it.
        """
        ...


class SourceSettings(Protocol):
    """Settings that choose a secret source. The inventory has checked them."""

    @property
    def source(self) -> Literal["1password", "age", "sops", "environment"]: ...
    @property
    def vault(self) -> str: ...
    @property
    def item(self) -> str: ...
    @property
    def file(self) -> str | None: ...
    @property
    def identity(self) -> str | None: ...


def make_source(settings: SourceSettings, fields: Collection[str]) -> SecretSource:
    """Create the secret source without reading it.

    Args:
        settings: The inventory's choice.
        fields: Names of the fields that must be unique and text if the source has them.
    """
    if settings.source == "environment":
        return EnvironmentSource()
    if settings.source == "1password":
        return OnePassword(settings.vault, settings.item)
    kind = AgeFile if settings.source == "age" else SopsFile
    identity = Path(settings.identity) if settings.identity else None
    return kind(Path(settings.file or ""), identity, fields=fields)


def describe_source(settings: SourceSettings) -> str:
    """Return the name of the source for messages."""
    if settings.source == "environment":
        return f"the variables {PREFIX}…"
    if settings.source == "1password":
        return f'the item "{settings.item}" in the vault "{settings.vault}" of 1Password'
    program = {"age": "age", "sops": "SOPS"}[settings.source]
    return f"{settings.file}, encrypted with {program}"
