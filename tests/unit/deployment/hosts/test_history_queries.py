"""Asking hosts what ran there, and for what ran before."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from ktrdr.deployment.hosts import history_queries as remembering
from ktrdr.deployment.hosts.history import Entry, Outcome
from ktrdr.deployment.hosts.history_queries import Remembered
from ktrdr.deployment.releases.archive import pack_files
from ktrdr.deployment.releases.release import Release
from ktrdr.errors import ConfigurationError, HostNotReady, HostUnreachable, NotFound
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.day import CORE, B, entry, recorded

FILES = {"docker-compose.core.yml": b"services: {}\n"}
KEPT = Release("sha-abc1234", None, FILES)


@pytest.fixture
def transport() -> RecordingTransport:
    return RecordingTransport()


def test_a_host_that_cannot_be_asked_does_not_hide_the_others(transport) -> None:
    error = HostUnreachable("away")
    transport.answer(Answer(stdout="\n".join(recorded(entry(1)))), host=CORE.host)
    transport.answer(Answer(error=error), host=B.host)
    assert remembering.ask([CORE, B], transport) == [
        Remembered(CORE, (entry(1),)),
        Remembered(B, error=error),
    ]


def test_a_history_that_may_not_be_read_is_no_empty_one(transport) -> None:
    transport.answer(Answer(1, stderr="cat: history.jsonl: Permission denied\n"))
    (found,) = remembering.ask([CORE], transport)
    assert str(found.error) == (
        f"the history on {CORE.host} cannot be read: cat: history.jsonl: Permission denied"
    )


FAILED = entry(3, "sha-bad0000", outcome=Outcome.FAILED, reason="sick")


@pytest.mark.parametrize(
    ("name", "goes_to"), [(None, "r2"), ("r1", "r1"), ("sha-0000001", "r1"), ("sha-0000002", "r2")]
)
def test_the_way_back_is_found_by_itself_by_id_and_by_tag(name, goes_to) -> None:
    found = Remembered(CORE, (entry(1, "sha-0000001"), entry(2, "sha-0000002"), FAILED))
    assert remembering.way_back(found, name).id == goes_to


@pytest.mark.parametrize("name", ["r3", "sha-bad0000", "r9"])
def test_what_failed_or_never_was_is_no_way_back(name) -> None:
    found = Remembered(CORE, (*(entry(number) for number in range(10, 17)), FAILED))
    with pytest.raises(NotFound, match=f"core on {CORE.host} remembers no good release") as raised:
        remembering.way_back(found, name)
    assert raised.value.hint == "It has: r12, r13, r14, r15, r16."


def test_a_host_with_nothing_good_says_so() -> None:
    with pytest.raises(NotFound) as raised:
        remembering.way_back(Remembered(CORE, (FAILED,)), "r1")
    assert raised.value.hint == "It has none."


@pytest.mark.parametrize("entries", [(), (entry(1),), (FAILED,)])
def test_where_only_one_release_ever_ran_there_is_no_way_back(entries) -> None:
    with pytest.raises(ConfigurationError, match="remembers no release to go back to"):
        remembering.way_back(Remembered(CORE, entries), None)


def test_a_host_that_could_not_be_asked_has_no_way_back() -> None:
    with pytest.raises(HostUnreachable):
        remembering.way_back(Remembered(B, error=HostUnreachable("away")), None)


def kept(content: dict[str, bytes]) -> Answer:
    return Answer(stdout=base64.b64encode(pack_files(content)).decode())


@pytest.fixture
def good() -> Entry:
    return entry(1, configuration=KEPT.configuration)


def test_a_kept_release_is_the_one_that_was_deployed(transport, good) -> None:
    transport.answer(kept(FILES))
    assert remembering.kept(CORE, good, transport) == KEPT
    assert f"main /opt/core {KEPT.configuration}\n" in transport.runs[0].script.reveal()


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
def test_what_is_kept_no_longer_as_it_was_is_not_deployed(transport, good, answer) -> None:
    transport.answer(answer)
    with pytest.raises(HostNotReady, match="does not keep the configuration of release r1"):
        remembering.kept(CORE, replace(good), transport)
