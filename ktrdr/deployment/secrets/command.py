"""Secrets that any program prints as JSON, such as the client of another password manager."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ktrdr.deployment.secrets.plaintext import parse_fields
from ktrdr.deployment.secrets.program import ProgramSource
from ktrdr.secret import Secret


@dataclass(frozen=True)
class CommandSource(ProgramSource):
    """Source that runs a program, which prints one JSON object with a text for each field.

    Attributes:
        command: The program and its arguments, which no shell interprets.
    """

    _install_hint = "Install it, or correct secrets.command in the inventory."

    command: Sequence[str]

    def fetch(self) -> Mapping[str, Secret]:
        """See `SecretSource.fetch`.

        Raises:
            SecretsError: The program is missing, fails, is too slow, or prints no JSON object.
        """
        output = self._run(*self.command)
        return parse_fields(output, f"the output of {self.command[0]}", self.fields, is_json=True)
