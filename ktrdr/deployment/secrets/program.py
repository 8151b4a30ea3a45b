"""Runner of the programs that read secrets. Their output and their errors are secret."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from ktrdr.errors import SecretsError
from ktrdr.secret import Secret

# A person may have to type a passphrase or touch a sensor first.
PROMPT_TIMEOUT_S: Final = 90.0
MAX_OUTPUT_BYTES: Final = 1024 * 1024
# A background process of a program keeps the output open. Nobody waits for its end.
_LINGER_S: Final = 0.2


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


def read_output(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    timeout_s: float,
    install_hint: str,
    explain: Callable[[ProgramResult], SecretsError],
    stdin: Secret | None = None,
) -> Secret:
    """Run a program that prints secrets; return its output.

    Without ``stdin``, its standard input is ``/dev/null``: `op` would read a pipe as an item.

    Args:
        command: The program and its arguments, none of which may be secret.
        environment: Environment of the program.
        timeout_s: Maximum duration, including a person's answer to a prompt (s).
        install_hint: Remedy if this machine does not have the program.
        explain: Returns the error for a result with an exit code.
        stdin: Standard input of the program.

    Raises:
        SecretsError: The program cannot be started, fails, takes too long, or prints too much.
    """
    name, deadline = Path(command[0]).name, time.monotonic() + timeout_s
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            bufsize=0,
        )
    except OSError as exc:
        is_missing = isinstance(exc, FileNotFoundError)
        reason = "is not installed on this machine" if is_missing else f"cannot run: {exc.strerror}"
        raise SecretsError(
            f"secrets cannot be fetched, because {command[0]} {reason}", hint=install_hint
        ) from exc
    exit_code = None
    with process:
        try:
            if stdin:
                threading.Thread(target=_feed, args=(process, stdin), daemon=True).start()
            outputs = _read_outputs(process, deadline)
            with contextlib.suppress(subprocess.TimeoutExpired):
                exit_code = process.wait(max(0.0, deadline - time.monotonic()))
        finally:
            process.kill()
    if outputs is None:
        raise SecretsError(
            f"{name} printed more than {MAX_OUTPUT_BYTES} bytes",
            hint="It must print the secrets and nothing else.",
        )
    if exit_code is None:
        raise SecretsError(
            f"{name} did not answer within {timeout_s:g} s",
            hint="Check whether it waits for your answer to a prompt, or for a hardware key.",
        )
    if exit_code:
        raise explain(ProgramResult(exit_code, *outputs))
    return outputs[0]


def _feed(process: subprocess.Popen[bytes], stdin: Secret) -> None:
    # A program that ends without reading says why.
    with contextlib.suppress(OSError, ValueError):
        if process.stdin:
            process.stdin.write(stdin.reveal().encode())
            process.stdin.close()


def _read_outputs(
    process: subprocess.Popen[bytes], deadline: float
) -> tuple[Secret, Secret] | None:
    """Return both outputs when they end, or what came until the deadline; None if it is too much.

    The caller raises errors, whose traceback must contain no output.
    """
    outputs = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        for pipe, output in zip((process.stdout, process.stderr), outputs, strict=True):
            selector.register(pipe, selectors.EVENT_READ, output)  # type: ignore[arg-type]  # pipes
        while selector.get_map() and (left_s := deadline - time.monotonic()) > 0:
            ready = selector.select(min(left_s, _LINGER_S))
            if not ready and process.poll() is not None:
                break
            for key, _ in ready:
                data = os.read(key.fd, MAX_OUTPUT_BYTES)
                key.data.extend(data)
                if len(key.data) > MAX_OUTPUT_BYTES:
                    process.kill()
                    return None
                if not data:
                    selector.unregister(key.fd)
    return _decode(outputs[0]), _decode(outputs[1])


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


def _decode(output: bytearray) -> Secret:
    # Bytes that are not UTF-8 become lone surrogates, which the check of the fields reports.
    return Secret(output.decode("utf-8", "surrogateescape"))
