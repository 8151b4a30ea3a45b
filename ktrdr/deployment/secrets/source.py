"""What a deploy needs of a vault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ktrdr.secret import Secret


class SecretSource(Protocol):
    """A place that keeps secrets."""

    def fetch(self, vault: str, item: str) -> Mapping[str, Secret]:
        """All secret fields of one item, by label, in one call to the vault.

        Raises:
            SecretsError: Not to be had; the message says why in words and what to do.
        """
        ...
