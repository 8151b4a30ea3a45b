"""What a deploy needs of a place that keeps secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from ktrdr.secret import Secret

# What KTRDR asks for by name; a source may hold more.
FIELDS: Final = ("db_username", "db_password", "jwt_secret", "grafana_password", "ghcr_token")


class SecretSource(Protocol):
    """A place that keeps secrets; `choice.source_of` makes the one that an inventory names."""

    def fetch(self) -> Mapping[str, Secret]:
        """All fields there are, by name, from one call to whatever keeps them.

        Raises:
            SecretsError: Not to be had; the message says why in words and what to do.
        """
        ...
