"""Actions in the history of a host, and their record before and after the work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.deployment.hosts.actions import HistoryAction, parse_actions, recorded
from ktrdr.deployment.hosts.history import DeployOutcome, parse_history
from ktrdr.deployment.hosts.host import DeployId
from ktrdr.errors import DeploymentFailed, HostUnreachable, Interrupted
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.histories import FIRST_DAY, history_entry, history_lines
from tests.unit.deployment.sample_hosts import B

STOP = HistoryAction(DeployId("a1", "ada@laptop", FIRST_DAY), "stop", "db, backend")


def recorded_actions(transport: RecordingTransport) -> Iterator[HistoryAction]:
    """Yield each action that a host received, in the order of the lines."""
    for run in transport.runs:
        lines = (line.strip(" '") for line in run.script.reveal().splitlines())
        words = (line.removeprefix("--event '") for line in lines)
        yield from parse_actions(words)


def test_an_action_is_parsed_as_it_was_written() -> None:
    done = replace(STOP, outcome=DeployOutcome.DONE, duration_s=1.5, reason="")
    failed = replace(STOP, kind="prune", outcome=DeployOutcome.FAILED, reason="“no” \n way")
    assert parse_actions([done.event(), failed.event()]) == (done, failed)


def test_the_last_line_of_an_action_counts_and_it_keeps_its_place() -> None:
    later = replace(STOP, kind="restart")
    done = replace(STOP, outcome=DeployOutcome.DONE)
    assert parse_actions([STOP.event(), later.event(), done.event()]) == (done, later)


def test_a_release_that_knows_no_actions_reads_the_deploys_beside_them() -> None:
    entry = history_entry(1)
    begun, ended = history_lines(entry)
    assert parse_history([STOP.event(), begun, STOP.event(), ended]) == (entry,)
    assert parse_actions([begun, ended]) == ()


@given(st.lists(st.text(), max_size=5))
def test_unreadable_lines_are_skipped(noise: list[str]) -> None:
    broken = [STOP.event()[:-9], STOP.event().replace('"who"', '"why"')]
    assert parse_actions([*noise, *broken, STOP.event()]) == (STOP,)


def test_an_action_is_recorded_as_cut_off_before_it_begins_and_with_its_end() -> None:
    transport = RecordingTransport()
    with recorded(transport, B, STOP):
        assert list(recorded_actions(transport)) == [STOP]
    *_, ended = recorded_actions(transport)
    assert (ended.outcome, ended.reason) == (DeployOutcome.DONE, "")
    assert ended.duration_s is not None


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (DeploymentFailed("db did not stop"), DeployOutcome.FAILED),
        (Interrupted("Ctrl-C"), DeployOutcome.INTERRUPTED),
    ],
)
def test_the_reason_of_a_failed_action_is_recorded(error, outcome) -> None:
    transport = RecordingTransport()
    with pytest.raises(type(error)), recorded(transport, B, STOP):
        raise error
    *_, ended = recorded_actions(transport)
    assert (ended.outcome, ended.reason) == (outcome, error.message)


def test_a_host_that_dies_during_an_action_does_not_hide_the_error() -> None:
    transport = RecordingTransport()
    transport.answer(Answer(), Answer(error=HostUnreachable("away")))
    with pytest.raises(DeploymentFailed), recorded(transport, B, STOP):
        raise DeploymentFailed("db did not stop")


def test_a_full_disk_prevents_no_action() -> None:
    transport = RecordingTransport()
    transport.answer(Answer(exit_code=1, stderr="No space left on device"))
    with recorded(transport, B, STOP):
        pass
