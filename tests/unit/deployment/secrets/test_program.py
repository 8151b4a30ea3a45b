"""Programs that print secrets: what they are given, and what they may not do."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from ktrdr.deployment.secrets.program import MAX_OUTPUT_BYTES, ProgramSource
from ktrdr.errors import ErrorPattern, SecretsError
from ktrdr.secret import Secret

Read = Callable[..., str]


class Program(ProgramSource):
    """Source that runs one program."""

    _install_hint = "Install it."
    _errors = (
        ErrorPattern("lost its key", "{file} has no key", "Create the key of {file}."),
        ErrorPattern("lost", "the program is lost", "Find it."),
    )

    def read(self, program: Path, stdin: Secret | None = None, **names: str) -> str:
        return self._run(str(program), names=names, stdin=stdin).reveal()


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Run lines of shell as a program that prints secrets."""

    def run(body: str, *, timeout_s: float = 20, stdin: Secret | None = None) -> str:
        program = tmp_path / "program"
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
        return Program(timeout_s=timeout_s).read(program, stdin, file="the file")

    return run


def error(read: Read, body: str, **given: float) -> str:
    with pytest.raises(SecretsError) as caught:
        read(body, **given)
    assert caught.value.hint
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
    with pytest.raises(SecretsError, match="failed with exit code 3: odd"):
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
        Program().read(program)


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("it lost its key", "the file has no key"),
        ("it is lost", "the program is lost"),
        ('"lost its key" is lost', "the program is lost"),
    ],
)
def test_the_first_known_message_counts_and_names_in_quotes_do_not(
    read: Read, said: str, meaning: str
) -> None:
    assert error(read, f"echo '{said}' >&2; exit 1") == meaning


def test_a_program_that_ends_after_its_outputs_is_waited_for(read: Read) -> None:
    assert read("echo done; exec >&- 2>&-; sleep 0.5") == "done\n"
