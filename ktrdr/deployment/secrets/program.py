"""Runs the program that opens a vault. What it prints is secret, and so are its complaints."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from ktrdr.errors import SecretsError
from ktrdr.secret import Secret

# A person may have to type a passphrase or touch a sensor first.
PATIENCE_S: Final = 90.0


class Answer(NamedTuple):
    """How a program ended and what it said.

    Attributes:
        code: Its exit code.
        printed: Its standard output.
        complaint: Its standard error, which may quote what it was given to read.
    """

    code: int
    printed: Secret
    complaint: Secret


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    timeout_s: float,
    remedy: str,
    given: Secret | None = None,
) -> Answer | None:
    """Runs a program to its end; None when that took too long.

    Args:
        command: The program and its arguments, none of which may be secret.
        environment: What it is given as its environment.
        timeout_s: Seconds it may take, a person's answer to a prompt included.
        remedy: What to do where this machine has no such program.
        given: What it reads on standard input.

    Raises:
        SecretsError: There is no such program, or it cannot be started.
    """
    # The exception holds what was printed so far: it is dropped, lest it become a cause.
    with contextlib.suppress(subprocess.TimeoutExpired):
        try:
            done = subprocess.run(
                list(command),
                input=given.reveal().encode() if given else b"",
                capture_output=True,
                timeout=timeout_s,
                env=dict(environment),
                check=False,
            )
        except OSError as exc:
            raise SecretsError(
                f"no secrets can be fetched, because this machine has no program {command[0]}",
                hint=remedy,
            ) from exc
        return Answer(done.returncode, _text(done.stdout), _text(done.stderr))
    return None


def _text(said: bytes) -> Secret:
    # What is no UTF-8 becomes half characters, which the check of requirements names.
    return Secret(said.decode("utf-8", "surrogateescape"))
