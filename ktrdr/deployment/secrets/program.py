"""Sources that run a program. Its output and its errors are secret."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

from ktrdr.errors import ErrorPattern, SecretsError, last_line
from ktrdr.secret import Scrubber, Secret, redact_assignments

MAX_OUTPUT_BYTES: Final = 1024 * 1024
# A background process of a program keeps the output open. Nobody waits for its end.
_LINGER_S: Final = 0.05
_MAX_QUOTED: Final = 200
# Variables with credentials, such as BW_SESSION, VAULT_TOKEN and OP_SERVICE_ACCOUNT_TOKEN.
_CREDENTIAL: Final = re.compile(r"TOKEN|SECRET|PASS|SESSION|KEY|CREDENTIAL", re.IGNORECASE)
_NAMES: Final = re.compile(r'"[^"\n]*"')
_PREFIX: Final = re.compile(r"^\[ERROR\] (\d{4}/\d\d/\d\d \d\d:\d\d:\d\d )?")


@dataclass(frozen=True, kw_only=True)
class ProgramSource:
    """Source of secrets that a program prints.

    Attributes:
        fields: Names that must be unique and text if the program prints them.
        timeout_s: Maximum duration, including a person's answer to a prompt (s).
        environment: Environment of the program.
    """

    _install_hint: ClassVar[str]
    # Known messages of the program. A cause stands before its consequences.
    _errors: ClassVar[Sequence[ErrorPattern]] = ()

    fields: Collection[str] = ()
    # A person may have to type a passphrase or touch a sensor first.
    timeout_s: float = 90.0
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    def _run(
        self,
        *command: str,
        names: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        stdin: Secret | None = None,
    ) -> Secret:
        """Run the program; return its output.

        Without ``stdin``, its standard input is ``/dev/null``: `op` would read a pipe as an item.

        Args:
            command: The program and its arguments, none of which may be secret.
            names: Values that messages and hints name.
            environment: Environment of the program, if it is another one.
            stdin: Standard input of the program.

        Raises:
            SecretsError: The program cannot be started, fails, takes too long, or prints too much.
        """
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(self.environment if environment is None else environment),
            )
        except OSError as exc:
            is_missing = isinstance(exc, FileNotFoundError)
            reason = (
                "is not installed on this machine" if is_missing else f"cannot run: {exc.strerror}"
            )
            raise SecretsError(
                f"secrets cannot be fetched, because {command[0]} {reason}", hint=self._install_hint
            ) from exc
        with process:
            try:
                outputs = _communicate(process, stdin, time.monotonic() + self.timeout_s)
            finally:
                process.kill()
        name = Path(command[0]).name
        if outputs is None:
            raise SecretsError(
                f"{name} did not answer within {self.timeout_s:g} s",
                hint="Check whether it waits for your answer to a prompt, or for a hardware key.",
            )
        if max(len(each.reveal()) for each in outputs) > MAX_OUTPUT_BYTES:
            raise SecretsError(
                f"{name} printed more than {MAX_OUTPUT_BYTES} bytes",
                hint="It must print the secrets and nothing else.",
            )
        stdout, stderr = outputs
        if process.returncode:
            raise self._known_error(stderr, names or {}) or self._other_error(
                command, process.returncode, stdout, stderr
            )
        return stdout

    def _known_error(self, stderr: Secret, names: Mapping[str, str]) -> SecretsError | None:
        # A name that the program quotes may consist of any words.
        text = _NAMES.sub('""', stderr.reveal())
        for pattern, message, hint in self._errors:
            if re.search(pattern, text):
                return SecretsError(message.format(**names), hint=hint.format(**names))
        return None

    def _other_error(
        self, command: Sequence[str], exit_code: int, stdout: Secret, stderr: Secret
    ) -> SecretsError:
        """Return the error for a message that is not known, without secrets."""
        credentials = (v for k, v in self.environment.items() if _CREDENTIAL.search(k))
        scrubber = Scrubber(map(Secret, (*credentials, *stdout.reveal().splitlines())))
        reason = redact_assignments(last_line(scrubber.scrub(stderr.reveal())))
        shown = "".join(filter(str.isprintable, _PREFIX.sub("", reason)))[:_MAX_QUOTED]
        return SecretsError(
            f"{command[0]} failed with exit code {exit_code}: {shown}",
            hint=f"Run `{shlex.join(command)} </dev/null` by hand.",
        )


def _communicate(
    process: subprocess.Popen[bytes], stdin: Secret | None, deadline: float
) -> tuple[Secret, Secret] | None:
    """Return both outputs when the program ends, or prints too much; None after the deadline.

    The caller raises errors, whose traceback must contain no output.
    """
    data = stdin.reveal().encode() if stdin else None
    has_ended = False
    while (left_s := deadline - time.monotonic()) > 0:
        try:
            # A second call would not send the rest of the data.
            out, err = process.communicate(data, left_s if data else min(left_s, _LINGER_S))
        except subprocess.TimeoutExpired as exc:
            out, err = exc.output or b"", exc.stderr or b""
            if not has_ended and max(len(out), len(err)) <= MAX_OUTPUT_BYTES:
                has_ended = process.poll() is not None
                data = None
                continue
        return _decode(out), _decode(err)
    return None


def _decode(output: bytes) -> Secret:
    # Bytes that are not UTF-8 become lone surrogates, which the check of the fields reports.
    return Secret(output.decode("utf-8", "surrogateescape"))
