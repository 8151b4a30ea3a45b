"""Secrets from environment variables, as CI systems provide them."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from typing import Final

from ktrdr.errors import SecretsError
from ktrdr.secret import Secret

PREFIX: Final = "KTRDR_SECRET_"
# Secrets that were removed from this process's environment.
_TAKEN: Final[dict[str, Secret]] = {}


class EnvironmentSource:
    """Source with a variable for each field: ``KTRDR_SECRET_DB_PASSWORD`` is ``db_password``.

    The first fetch removes them from the environment, so that later programs (ssh, git, hooks) do
    not inherit them.
    """

    def __init__(
        self,
        environment: MutableMapping[str, str] = os.environ,
        taken: dict[str, Secret] | None = None,
    ) -> None:
        """Create the source without reading the environment.

        Args:
            environment: Environment to read.
            taken: Store of the removed secrets for later fetches; by default one for the process.
        """
        self._environment = environment
        self._taken = _TAKEN if taken is None else taken

    def fetch(self) -> Mapping[str, Secret]:
        """See `SecretSource.fetch`.

        Raises:
            SecretsError: No such variable is set.
        """
        for name in [name for name in self._environment if name.startswith(PREFIX)]:
            field = name.removeprefix(PREFIX).lower()
            self._taken[field] = Secret(self._environment.pop(name))
        if not self._taken:
            raise SecretsError(
                f"no variable {PREFIX}… is set, but secrets.source is environment",
                hint=f"Set {PREFIX}DB_PASSWORD and so on, or choose another secrets.source.",
            )
        return dict(self._taken)
