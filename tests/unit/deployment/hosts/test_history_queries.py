"""Queries of histories, rollback targets, and the releases that hosts keep."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace

import pytest

from ktrdr.deployment.hosts.history import DeployKind, DeployOutcome, HistoryEntry
from ktrdr.deployment.hosts.history_queries import (
    HostHistory,
    fetch_histories,
    fetch_release,
    find_behind,
    rollback_target,
)
from ktrdr.deployment.hosts.host import Host
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


# ------------------------------------------------------------------------- hosts that are behind

C = replace(B, name="workers C", node="C", address="workers-c.lab.test")
OLD, NEW = history_entry(1), history_entry(2)


def off() -> HostUnreachable:
    error = HostUnreachable("it does not answer")
    error.is_off = True
    return error


def remember(
    transport: RecordingTransport, **entries: list[HistoryEntry] | HostUnreachable
) -> None:
    for host in (CORE, B, C):
        given = entries.get(host.short_name.lower(), [])
        answer = (
            Answer(error=given)
            if isinstance(given, HostUnreachable)
            else Answer(stdout="\n".join(history_lines(*given)))
        )
        transport.answer(answer, host=host.address)


def behind(
    transport: RecordingTransport, tag: str | None = None, hosts: Sequence[Host] = (B, C)
) -> tuple[str, list[str]]:
    found, selected = find_behind(hosts, (CORE, B, C), tag, transport)
    return found, [host.name for host in selected]


def test_hosts_without_the_newest_release_are_behind(transport) -> None:
    remember(transport, core=[OLD, NEW], b=[OLD, NEW], c=[OLD])
    assert behind(transport) == (NEW.tag, ["workers C"])


def test_a_host_that_was_never_deployed_is_behind(transport) -> None:
    remember(transport, core=[NEW], b=[NEW], c=[])
    assert behind(transport) == (NEW.tag, ["workers C"])


def test_a_host_whose_last_deploy_failed_is_behind(transport) -> None:
    remember(
        transport, core=[NEW], b=[NEW], c=[NEW, history_entry(3, outcome=DeployOutcome.FAILED)]
    )
    assert behind(transport) == (NEW.tag, ["workers C"])


def test_hosts_are_behind_a_rollback_that_they_missed(transport) -> None:
    back = history_entry(3, OLD.tag, kind=DeployKind.ROLLBACK)
    remember(transport, core=[OLD, NEW, back], b=[OLD, NEW, back], c=[OLD, NEW])
    assert behind(transport) == (OLD.tag, ["workers C"])


def test_a_host_that_rolled_back_by_itself_is_behind_the_others(transport) -> None:
    back = history_entry(3, OLD.tag, kind=DeployKind.AUTOMATIC_ROLLBACK)
    remember(transport, core=[NEW], b=[NEW], c=[OLD, back])
    assert behind(transport) == (NEW.tag, ["workers C"])


def test_a_release_of_one_service_is_not_that_of_the_fleet(transport) -> None:
    remember(transport, core=[NEW, history_entry(3, service="grafana")], b=[NEW], c=[NEW])
    assert behind(transport) == (NEW.tag, [])


def test_a_tag_that_moved_puts_a_host_behind(transport) -> None:
    first = history_entry(1, "main", images={"x:main": "sha256:1"})
    second = history_entry(2, "main", images={"x:main": "sha256:2", "db:1": "sha256:3"})
    remember(transport, core=[second], b=[second], c=[first])
    assert behind(transport) == ("main", ["workers C"])


def test_a_classic_store_that_knows_an_image_by_several_digests_is_not_behind(transport) -> None:
    containerd = history_entry(2, "main").with_digests({"x:main": ("sha256:2",)})
    classic = history_entry(2, "main").with_digests({"x:main": ("sha256:1", "sha256:2")})
    remember(transport, core=[containerd], b=[containerd], c=[classic])
    assert behind(transport) == ("main", [])
    other = history_entry(2, "main").with_digests({"x:main": ("sha256:1", "sha256:3")})
    remember(transport, core=[containerd], b=[containerd], c=[other])
    assert behind(transport) == ("main", ["workers C"])


def test_with_a_tag_only_the_named_hosts_are_asked(transport) -> None:
    remember(transport, core=off(), b=[OLD, NEW], c=[OLD])
    assert behind(transport, OLD.tag) == (OLD.tag, ["workers B"])
    assert CORE.address not in {run.host for run in transport.runs}


def test_a_node_that_is_off_may_be_behind(transport) -> None:
    remember(transport, core=[NEW], b=[NEW], c=off())
    assert behind(transport) == (NEW.tag, ["workers C"])
    assert behind(transport, hosts=[B]) == (NEW.tag, [])


@pytest.mark.parametrize(
    "entries", [{"core": off(), "b": [OLD]}, {"core": [OLD], "c": HostUnreachable("a new key")}]
)
def test_without_the_core_or_with_another_error_nothing_is_concluded(transport, entries) -> None:
    remember(transport, **entries)
    with pytest.raises(HostUnreachable):
        behind(transport)


def test_before_the_first_deploy_no_host_is_behind(transport) -> None:
    remember(transport)
    with pytest.raises(ConfigurationError, match="no host remembers a good release"):
        behind(transport)
