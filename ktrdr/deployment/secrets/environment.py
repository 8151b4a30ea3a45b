"""Secrets from environment variables, as CI systems provide them."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Final

from ktrdr.errors import SecretsError
from ktrdr.secret import Secret

PREFIX: Final = "KTRDR_SECRET_"
# Secrets that were removed from this process's environment.
_TAKEN: Final[dict[str, Secret]] = {}


@dataclass(frozen=True)
class EnvironmentSource:
    """Source with a variable for each field: ``KTRDR_SECRET_DB_PASSWORD`` is ``db_password``.

    The first fetch removes them from the environment, so that later programs (ssh, git, hooks) do
    not inherit them.

    Attributes:
        environment: Environment to read.
        taken: Store of the removed secrets for later fetches; by default one for the process.
    """

    environment: MutableMapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    taken: dict[str, Secret] = field(default_factory=lambda: _TAKEN)

    def fetch(self) -> Mapping[str, Secret]:
        """See `SecretSource.fetch`.

        Raises:
            SecretsError: No such variable is set.
        """
        for name in [name for name in self.environment if name.startswith(PREFIX)]:
            self.taken[name.removeprefix(PREFIX).lower()] = Secret(self.environment.pop(name))
        if not self.taken:
            raise SecretsError(
                f"no variable {PREFIX}… is set, but secrets.source is environment",
                hint=f"Set {PREFIX}DB_PASSWORD and so on, or choose another secrets.source.",
            )
        return dict(self.taken)
