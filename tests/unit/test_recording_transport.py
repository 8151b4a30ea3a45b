"""Behaviour of the recording transport alone. test_transports.py has the common contract."""

from __future__ import annotations

import pytest

from ktrdr.errors import HostUnreachable
from ktrdr.secret import Secret
from tests.recording_transport import Answer, RecordingTransport


def test_all_scripts_are_recorded() -> None:
    transport = RecordingTransport()
    transport.run("a", Secret("one"), timeout_s=5)
    transport.run("b", Secret("two"), timeout_s=6)
    assert [(run.host, run.script.reveal(), run.timeout_s) for run in transport.runs] == [
        ("a", "one", 5),
        ("b", "two", 6),
    ]
    assert "one" not in repr(transport.runs)


def test_a_script_without_a_prepared_answer_succeeds_silently() -> None:
    result = RecordingTransport().run("a", Secret("x"), timeout_s=5)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_answers_are_selected_by_host_and_by_text_of_the_script() -> None:
    transport = RecordingTransport()
    transport.answer(Answer(stdout="pulled\n"), containing="pull")
    transport.answer(Answer(exit_code=1), host="b", containing="pull")
    assert transport.run("a", Secret("docker pull"), timeout_s=5).stdout == "pulled\n"
    assert transport.run("b", Secret("docker pull"), timeout_s=5).exit_code == 1
    assert transport.run("b", Secret("docker ps"), timeout_s=5).exit_code == 0


def test_answers_are_given_in_turn_and_the_last_is_repeated() -> None:
    transport = RecordingTransport()
    transport.answer(Answer(stdout="starting"), Answer(stdout="healthy"))
    outputs = [transport.run("a", Secret("x"), timeout_s=5).stdout for _ in range(3)]
    assert outputs == ["starting", "healthy", "healthy"]


def test_a_host_that_was_not_reached_does_not_count_as_connected() -> None:
    transport = RecordingTransport()
    transport.answer(Answer(error=HostUnreachable("gone")))
    with pytest.raises(HostUnreachable):
        transport.run("a", Secret("x"), timeout_s=5)
    assert (transport.connections, transport.scripts, len(transport.runs)) == (0, 0, 1)
