"""Runner of the programs that read secrets. Their output and their errors are secret."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from ktrdr.errors import SecretsError
from ktrdr.secret import Secret

# A person may have to type a passphrase or touch a sensor first.
PROMPT_TIMEOUT_S: Final = 90.0


class ProgramResult(NamedTuple):
    """Result of a program.

    Attributes:
        exit_code: Exit code.
        stdout: Standard output.
        stderr: Standard error, which may quote the program's input.
    """

    exit_code: int
    stdout: Secret
    stderr: Secret


class ErrorPattern(NamedTuple):
    """Pattern of a program's message, with our message and remedy."""

    pattern: str
    message: str
    hint: str


def run_program(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    timeout_s: float,
    install_hint: str,
    stdin: Secret | None = None,
) -> ProgramResult | None:
    """Run a program to its end; return None if it took too long.

    Args:
        command: The program and its arguments, none of which may be secret.
        environment: Environment of the program.
        timeout_s: Maximum duration, including a person's answer to a prompt (s).
        install_hint: Remedy if this machine does not have the program.
        stdin: Standard input of the program.

    Raises:
        SecretsError: The program is not installed or cannot be started.
    """
    # The exception contains the output so far. Suppressed here, it is no cause of a later error.
    with contextlib.suppress(subprocess.TimeoutExpired):
        try:
            done = subprocess.run(
                list(command),
                input=stdin.reveal().encode() if stdin else b"",
                capture_output=True,
                timeout=timeout_s,
                env=dict(environment),
                check=False,
            )
        except OSError as exc:
            raise SecretsError(
                f"secrets cannot be fetched, because {command[0]} is not installed on this machine",
                hint=install_hint,
            ) from exc
        return ProgramResult(done.returncode, _decode(done.stdout), _decode(done.stderr))
    return None


def match_error(
    patterns: Iterable[ErrorPattern], stderr: Secret, values: Mapping[str, str]
) -> SecretsError | None:
    """Return the error of the first pattern that matches, or None.

    Args:
        patterns: Known errors of the program; a cause stands before its consequences.
        stderr: Standard error of the program.
        values: Values that the messages and hints name.
    """
    for pattern, message, hint in patterns:
        if re.search(pattern, stderr.reveal()):
            return SecretsError(message.format(**values), hint=hint.format(**values))
    return None


def _decode(output: bytes) -> Secret:
    # Bytes that are not UTF-8 become lone surrogates, which the check of the fields reports.
    return Secret(output.decode("utf-8", "surrogateescape"))
