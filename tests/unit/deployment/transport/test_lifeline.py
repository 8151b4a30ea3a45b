from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from ktrdr.deployment.transport.lifeline import BEAT, with_lifeline

SHELLS = [
    shell for shell in (["sh"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])
]


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def shell(request: pytest.FixtureRequest) -> list[str]:
    return list(request.param)


@contextmanager
def running(shell: list[str], script: str, **limits: int) -> Iterator[subprocess.Popen[bytes]]:
    """A session of its own, as sshd makes one, with its standard input still open."""
    with subprocess.Popen(
        [*shell, "-s"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(with_lifeline(script, **limits).encode())
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def output(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    """What the script gives while the caller's end stays open."""
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = process.stdout.read(), process.stderr.read()
    return process.wait(10), out, err


def test_a_script_gives_its_outputs_and_its_exit_code(shell: list[str]) -> None:
    with running(shell, "echo out; echo err >&2; exit 7") as process:
        assert output(process) == (7, b"out\n", b"err\n")


def test_a_script_finds_its_standard_input_empty(shell: list[str]) -> None:
    with running(shell, "cat; echo after") as process:
        assert output(process) == (0, b"after\n", b"")


def test_exit_code_255_becomes_254(shell: list[str]) -> None:
    with running(shell, "exit 255") as process:
        assert output(process)[0] == 254


def test_a_script_that_ends_in_a_comment_or_a_here_document_is_whole(shell: list[str]) -> None:
    with running(shell, "cat <<'END'\n) }\nEND\n# the end") as process:
        assert output(process)[:2] == (0, b") }\n")


def test_the_script_ends_when_its_input_ends(shell: list[str]) -> None:
    with running(shell, "trap 'echo cleaned; exit 1' TERM; echo up; sleep 300 & wait") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.stdin.close()
        assert process.stdout.read() == b"cleaned\n"
        assert process.wait(10) == 1


def test_the_script_ends_when_its_caller_falls_silent(shell: list[str]) -> None:
    with running(shell, "sleep 300", silence_s=1) as process:
        started = time.monotonic()
        assert process.wait(10) != 0
        assert time.monotonic() - started >= 0.9


def test_the_script_goes_on_as_long_as_beats_come(shell: list[str]) -> None:
    with running(shell, "sleep 1.4; echo done", silence_s=1) as process:
        assert process.stdin is not None
        for _ in range(5):
            process.stdin.write(BEAT)
            # Not a wait for a condition: the passing of time is what is tested.
            time.sleep(0.25)
        assert output(process)[:2] == (0, b"done\n")


def test_what_does_not_end_is_killed_after_its_grace(shell: list[str]) -> None:
    with running(shell, "trap '' TERM; echo up; sleep 300", grace_s=1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.stdin.close()
        assert process.wait(10) == -signal.SIGKILL


def test_a_script_of_which_only_a_part_arrived_does_nothing(shell: list[str]) -> None:
    whole = with_lifeline("echo one\necho two\n")
    for length in range(1, len(whole) - 2, 7):
        ended = subprocess.run(
            [*shell, "-s"], input=whole[:length].encode(), capture_output=True, check=False
        )
        assert ended.stdout == b"", whole[:length]
