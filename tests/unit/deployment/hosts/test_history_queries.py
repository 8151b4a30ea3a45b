"""Queries of histories, rollback targets, and the releases that hosts keep."""

from __future__ import annotations

import base64

import pytest

from ktrdr.deployment.hosts.history import DeployOutcome, HistoryEntry
from ktrdr.deployment.hosts.history_queries import (
    HostHistory,
    fetch_histories,
    fetch_release,
    rollback_target,
)
from ktrdr.deployment.releases.release import Release, pack_archive
from ktrdr.errors import ConfigurationError, HostNotReady, HostUnreachable, NotFound
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.histories import history_entry, history_lines
from tests.unit.deployment.sample_hosts import CORE, B

FILES = {"docker-compose.core.yml": b"services: {}\n"}
KEPT = Release("sha-abc1234", None, FILES)
FAILED = history_entry(3, "sha-bad0000", outcome=DeployOutcome.FAILED, reason="unhealthy")


@pytest.fixture
def transport() -> RecordingTransport:
    return RecordingTransport()


def test_a_host_that_cannot_be_queried_does_not_hide_the_others(transport) -> None:
    error = HostUnreachable("it cannot be reached")
    lines = history_lines(history_entry(1))
    transport.answer(Answer(stdout="\n".join(lines)), host=CORE.address)
    transport.answer(Answer(error=error), host=B.address)
    assert fetch_histories([CORE, B], transport) == [
        HostHistory(CORE, (history_entry(1),)),
        HostHistory(B, error=error),
    ]


def test_an_unreadable_history_is_not_an_empty_one(transport) -> None:
    transport.answer(Answer(1, stderr="cat: history.jsonl: Permission denied\n"))
    (history,) = fetch_histories([CORE], transport)
    assert isinstance(history.error, HostNotReady)
    assert history.error.message == (
        f"the history on {CORE.address} cannot be read: cat: history.jsonl: Permission denied"
    )


@pytest.mark.parametrize(
    ("name", "target"), [(None, "r2"), ("r1", "r1"), ("sha-0000001", "r1"), ("sha-0000002", "r2")]
)
def test_the_rollback_target_is_the_previous_release_or_named_by_id_or_tag(name, target) -> None:
    history = HostHistory(CORE, (history_entry(1), history_entry(2), FAILED))
    assert rollback_target(history, name).id == target


@pytest.mark.parametrize("name", ["r3", "sha-bad0000", "r9"])
def test_failed_and_unknown_releases_are_not_rolled_back_to(name) -> None:
    history = HostHistory(CORE, (*(history_entry(number) for number in range(10, 17)), FAILED))
    message = f"core on {CORE.address} has no good release '{name}'"
    with pytest.raises(NotFound, match=message) as raised:
        rollback_target(history, name)
    assert raised.value.hint == "It has: r12, r13, r14, r15, r16."


def test_the_error_of_a_host_without_a_good_release_names_the_remedy() -> None:
    with pytest.raises(NotFound) as raised:
        rollback_target(HostHistory(CORE, (FAILED,)), "r1")
    assert raised.value.hint == "Deploy a version with --tag."


@pytest.mark.parametrize("entries", [(), (history_entry(1),), (FAILED,)])
def test_a_host_with_at_most_one_release_has_no_rollback_target(entries) -> None:
    with pytest.raises(ConfigurationError, match="has no earlier good release to roll back to"):
        rollback_target(HostHistory(CORE, entries), None)


def test_a_host_that_could_not_be_queried_has_no_rollback_target() -> None:
    history = HostHistory(B, error=HostUnreachable("it cannot be reached"))
    with pytest.raises(HostUnreachable):
        rollback_target(history, None)


def kept(content: dict[str, bytes]) -> Answer:
    """Return the answer of a host that keeps these files."""
    return Answer(stdout=base64.b64encode(pack_archive(content)).decode())


@pytest.fixture
def good() -> HistoryEntry:
    return history_entry(1, KEPT.tag, configuration=KEPT.configuration_hash, commit=None)


def test_a_host_returns_the_release_that_it_keeps(transport, good) -> None:
    transport.answer(kept(FILES))
    assert fetch_release(CORE, good, transport) == KEPT
    assert f"main /opt/core {KEPT.configuration_hash}\n" in transport.runs[0].script.reveal()


@pytest.mark.parametrize(
    "answer",
    [
        Answer(),
        Answer(1, stderr="base64: Permission denied"),
        Answer(stdout="bm8gYXJjaGl2ZQ=="),
        kept({"docker-compose.core.yml": b"services: {evil: {}}\n"}),
    ],
    ids=["gone", "forbidden", "damaged", "changed"],
)
def test_a_release_that_is_not_kept_unchanged_is_not_returned(transport, good, answer) -> None:
    transport.answer(answer)
    with pytest.raises(HostNotReady, match="does not keep the configuration of release r1"):
        fetch_release(CORE, good, transport)
