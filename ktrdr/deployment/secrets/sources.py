"""Choice of the secret source that an inventory names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from ktrdr.deployment.secrets.command import CommandSource
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
    def source(self) -> Literal["1password", "age", "sops", "environment", "command"]: ...
    @property
    def vault(self) -> str | None: ...
    @property
    def item(self) -> str: ...
    @property
    def account(self) -> str | None: ...
    @property
    def file(self) -> str | None: ...
    @property
    def identity(self) -> str | None: ...
    @property
    def command(self) -> Sequence[str]: ...
    @property
    def field_names(self) -> Sequence[str]: ...


def make_source(settings: SourceSettings) -> SecretSource:
    """Create the secret source that an inventory names, without reading it."""
    if settings.source == "environment":
        return EnvironmentSource()
    if settings.source == "1password":
        return OnePassword(settings.vault, settings.item, account=settings.account)
    if settings.source == "command":
        return CommandSource(settings.command, fields=settings.field_names)
    kind = AgeFile if settings.source == "age" else SopsFile
    identity = Path(settings.identity) if settings.identity else None
    return kind(Path(settings.file or ""), identity, fields=settings.field_names)


def describe_source(settings: SourceSettings) -> str:
    """Return the name of the source for messages."""
    if settings.source == "environment":
        return f"the variables {PREFIX}…"
    if settings.source == "1password":
        vault = f' in the vault "{settings.vault}"' if settings.vault else ""
        account = f", account {settings.account}" if settings.account else ""
        return f'the item "{settings.item}"{vault} of 1Password{account}'
    if settings.source == "command":
        return f"the command {settings.command[0]}"
    program = {"age": "age", "sops": "SOPS"}[settings.source]
    return f"{settings.file}, encrypted with {program}"
