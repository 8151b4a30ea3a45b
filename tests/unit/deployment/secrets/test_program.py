"""Programs that print secrets: what they are given, and what they may not do."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from ktrdr.deployment.secrets.program import MAX_OUTPUT_BYTES, ProgramResult, read_output
from ktrdr.errors import SecretsError
from ktrdr.secret import Secret

Read = Callable[..., str]


def explain(result: ProgramResult) -> SecretsError:
    return SecretsError(f"{result.exit_code}: {len(result.stderr.reveal())} characters")


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Run lines of shell as a program that prints secrets."""

    def run(body: str, *, timeout_s: float = 20, stdin: Secret | None = None) -> str:
        program = tmp_path / "program"
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
        output = read_output(
            [str(program)],
            environment=os.environ,
            timeout_s=timeout_s,
            install_hint="install",
            explain=explain,
            stdin=stdin,
        )
        return output.reveal()

    return run


def error(read: Read, body: str, **given: float) -> str:
    with pytest.raises(SecretsError) as caught:
        read(body, **given)
    assert caught.value.hint or "characters" in caught.value.message
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    assert "hunter22" not in "".join(shown).replace(body, "").replace(repr(body), "")
    return caught.value.message


def test_standard_input_is_no_pipe_because_op_would_read_it(read: Read) -> None:
    kind = read("[ -p /dev/stdin ] && echo pipe; [ -c /dev/stdin ] && echo device; cat")
    assert kind == "device\n"


def test_standard_input_that_is_given_arrives_whole(read: Read) -> None:
    key = "k" * 200_000
    assert read("cat", stdin=Secret(key)) == key


def test_a_program_that_does_not_read_its_standard_input_says_why(read: Read) -> None:
    with pytest.raises(SecretsError, match="3: 4 characters"):
        read("echo odd >&2; exit 3", stdin=Secret("k" * 200_000))


@pytest.mark.parametrize("redirection", ["", ">&2"])
def test_a_program_that_prints_too_much_is_ended(read: Read, redirection: str) -> None:
    began = time.monotonic()
    message = error(read, f"yes hunter22 {redirection}")
    assert message == f"program printed more than {MAX_OUTPUT_BYTES} bytes"
    assert time.monotonic() - began < 10


def test_a_program_that_takes_too_long_is_ended(read: Read) -> None:
    message = error(read, "echo hunter22; exec sleep 60", timeout_s=0.5)
    assert message == "program did not answer within 0.5 s"


def test_a_background_process_that_keeps_the_output_open_is_not_waited_for(read: Read) -> None:
    began = time.monotonic()
    assert read("sleep 60 & echo done") == "done\n"
    assert time.monotonic() - began < 10


def test_a_program_that_may_not_be_run_is_not_called_missing(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("no program")
    with pytest.raises(SecretsError, match="cannot run: Permission denied"):
        read_output([str(program)], environment={}, timeout_s=1, install_hint="x", explain=explain)
