"""Secrets that whoever runs the command has put into its environment, as CI systems do."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from typing import Final

from ktrdr.errors import SecretsError
from ktrdr.secret import Secret

PREFIX: Final = "KTRDR_SECRET_"
# What was taken from this process's environment, which has it no more.
_TAKEN: Final[dict[str, Secret]] = {}


class EnvironmentVariables:
    """One variable a field: ``KTRDR_SECRET_DB_PASSWORD`` is ``db_password``.

    They are taken out of the environment when they are first asked for, so that no program started
    afterwards (ssh, git, hooks) is given them.
    """

    def __init__(
        self,
        environment: MutableMapping[str, str] = os.environ,
        taken: dict[str, Secret] | None = None,
    ) -> None:
        """Takes nothing yet.

        Args:
            environment: Where they are.
            taken: Where they are kept for whoever asks later; by default for the whole process.
        """
        self._environment = environment
        self._taken = _TAKEN if taken is None else taken

    def fetch(self) -> Mapping[str, Secret]:
        """See `SecretSource.fetch`.

        Raises:
            SecretsError: There is no such variable at all.
        """
        for name in [name for name in self._environment if name.startswith(PREFIX)]:
            field = name.removeprefix(PREFIX).lower()
            self._taken[field] = Secret(self._environment.pop(name))
        if not self._taken:
            raise SecretsError(
                f"no variable {PREFIX}… is set, and secrets.source says that they come from there",
                hint=f"Set {PREFIX}DB_PASSWORD and so on, or choose another secrets.source.",
            )
        return dict(self._taken)
