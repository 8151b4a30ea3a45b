"""Secrets that any program prints as JSON, such as the client of another password manager."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ktrdr.deployment.secrets.plaintext import parse_fields
from ktrdr.deployment.secrets.program import (
    PROMPT_TIMEOUT_S,
    ErrorPattern,
    ProgramResult,
    match_error,
    read_output,
)
from ktrdr.errors import SecretsError, last_line
from ktrdr.secret import Scrubber, Secret, redact_assignments

_MAX_QUOTED: Final = 200
# Variables with credentials, such as BW_SESSION and VAULT_TOKEN.
_CREDENTIAL: Final = re.compile(r"TOKEN|SECRET|PASS|SESSION|KEY|CREDENTIAL", re.IGNORECASE)
# Messages of Bitwarden, pass and gpg, Vault, Infisical. A cause stands before its consequences.
_ERRORS: Final = (
    ErrorPattern(
        r"(?i)dial tcp|ENOTFOUND|ECONNREFUSED|connection refused|no such host|unreachable|"
        r"could not resolve|timed? ?out|certificate|x509",
        "{program} cannot reach its server",
        "Check this machine's network, and the server's address in your environment.",
    ),
    ErrorPattern(
        r"(?i)\blocked\b|\bsealed\b|decryption failed",
        "{program} finds its vault locked",
        "Unlock it, and run the command again.",
    ),
    ErrorPattern(
        r"(?i)(not|n't|be|please) (logged|log|signed|sign) ?in|unauth(enticated|orized)|"
        r"not authenticated|expired|missing client token|\b401\b",
        "{program} is not signed in",
        "Sign in, and run the command again.",
    ),
    ErrorPattern(
        r"(?i)permission denied|forbidden|access denied|\b403\b",
        "{program} may not read the secrets",
        "Give its account access to them, or sign in to another one.",
    ),
    ErrorPattern(
        r"(?i)not found|no such|no value|does(n't| not) exist|is not in the|\b404\b",
        "{program} does not find the secrets",
        "Correct secrets.command in the inventory.",
    ),
)


@dataclass(frozen=True)
class CommandSource:
    """Source that runs a program, which prints one JSON object with a text for each field.

    Attributes:
        command: The program and its arguments, which no shell interprets.
        fields: Names that must be unique and text if the program prints them.
        timeout_s: Maximum duration, including a person's answer to a prompt (s).
        environment: Environment of the program.
    """

    command: Sequence[str]
    fields: Collection[str] = ()
    timeout_s: float = PROMPT_TIMEOUT_S
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    def fetch(self) -> Mapping[str, Secret]:
        """See `SecretSource.fetch`.

        Raises:
            SecretsError: The program is missing, fails, is too slow, or prints no JSON object.
        """
        output = read_output(
            self.command,
            environment=self.environment,
            timeout_s=self.timeout_s,
            install_hint="Install it, or correct secrets.command in the inventory.",
            explain=self._explain,
        )
        return parse_fields(output, f"the output of {self.command[0]}", self.fields, is_json=True)

    def _explain(self, result: ProgramResult) -> SecretsError:
        program = self.command[0]
        if known := match_error(_ERRORS, result.stderr, {"program": program}):
            return known
        credentials = (v for k, v in self.environment.items() if _CREDENTIAL.search(k))
        scrubber = Scrubber(map(Secret, (*credentials, *result.stdout.reveal().splitlines())))
        reason = redact_assignments(last_line(scrubber.scrub(result.stderr.reveal())))
        shown = "".join(filter(str.isprintable, reason))[:_MAX_QUOTED]
        return SecretsError(
            f"{program} failed with exit code {result.exit_code}: {shown}",
            hint=f"Run `{shlex.join(self.command)} </dev/null` by hand.",
        )
