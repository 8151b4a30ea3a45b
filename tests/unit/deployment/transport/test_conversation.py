from __future__ import annotations

import subprocess

import pytest

from ktrdr.deployment.transport import conversation
from ktrdr.deployment.transport.conversation import Conversation, end_process, opened


def start(*command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_input_and_output_larger_than_any_pipe_pass_at_once() -> None:
    process = start("sh", "-c", "exec head -c 1000000")
    heard: list[bytes] = []
    talk = Conversation(process, b"x" * 1_000_000, {opened(process.stdout): heard.append})
    assert talk.run(20) == 0
    assert b"".join(heard) == b"x" * 1_000_000


def test_a_process_that_does_not_read_its_input_is_no_fault() -> None:
    process = start("false")
    talk = Conversation(process, b"x" * 1_000_000, {opened(process.stdout): lambda _: None})
    assert talk.run(20) == 1


def test_beats_follow_what_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "BEAT_EVERY_S", 0.01)
    process = start("head", "-n", "4")
    heard: list[bytes] = []
    talk = Conversation(process, b"script\n", {opened(process.stdout): heard.append})
    assert talk.run(20) == 0
    assert b"".join(heard) == b"script\n.\n.\n.\n"


def test_what_takes_too_long_sees_its_input_end_and_may_say_a_last_word() -> None:
    process = start("sh", "-c", "echo up; cat >/dev/null; echo bye")
    heard: list[bytes] = []
    talk = Conversation(process, b"", {opened(process.stdout): heard.append})
    with pytest.raises(TimeoutError):
        talk.run(0.3)
    assert b"".join(heard) == b"up\nbye\n"
    assert process.returncode is not None


def test_a_listener_that_fails_does_not_leave_the_process_behind() -> None:
    process = start("sh", "-c", "echo up; cat >/dev/null")

    def fail(_: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Conversation(process, b"", {opened(process.stdout): fail}).run(20)
    assert process.returncode is not None


def test_a_process_that_ignores_being_asked_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "_EXIT_S", 0.1)
    process = start("sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done")
    assert opened(process.stdout).readline() == b"up\n"
    end_process(process)
    assert process.returncode == -9
