"""What a host remembers: written, read back, and asked for the way back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.deployment.hosts import history
from ktrdr.deployment.hosts.history import DeployKind, DeployOutcome, HistoryEntry

BEGAN = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)


def entry(
    number: int, tag: str = "", outcome: DeployOutcome = DeployOutcome.DEPLOYED, **more
) -> HistoryEntry:
    return HistoryEntry(
        **{
            "id": f"r{number}",
            "kind": DeployKind.DEPLOY,
            "service": "all",
            "tag": tag or f"sha-000000{number}",
            "commit": "c" * 40,
            "configuration": f"conf-{number}",
            "who": "ada@laptop",
            "began": BEGAN + timedelta(hours=number),
            "outcome": outcome,
            "duration_s": None if outcome is DeployOutcome.CUT_OFF else 2.5,
            **more,
        }
    )


def lines(*entries: HistoryEntry) -> list[str]:
    found = []
    for each in entries:
        found.append(each.begun())
        if each.outcome is not DeployOutcome.CUT_OFF:
            found.append(each.ended())
    return found


def test_entries_are_read_back_as_they_were_written() -> None:
    written = (
        entry(
            1, images={"a:b": "sha256:1"}, profiles=("scale-2",), contract_migrations=("0003_x",)
        ),
        entry(4, containers={"db": "0123456789ab"}),
        entry(2, outcome=DeployOutcome.FAILED, reason='it\'s "bad"\nreally', rolled_back_from="r1"),
        entry(3, outcome=DeployOutcome.CUT_OFF, settings={"LOG_LEVEL": "é"}),
    )
    assert history.read(lines(*written)) == written


def test_an_end_that_an_older_version_wrote_names_no_containers() -> None:
    begun, ended = lines(entry(1, containers={"db": "0123456789ab"}))
    old = {key: each for key, each in json.loads(ended).items() if key != "containers"}
    assert history.read([begun, json.dumps(old)]) == (entry(1),)


@given(st.lists(st.text(), max_size=5))
def test_lines_that_cannot_be_read_are_left_out(noise: list[str]) -> None:
    good = entry(1)
    assert good in history.read([*noise, *lines(good), '{"event":"ended","id":"r9"}', *noise])


@given(
    st.recursive(st.none() | st.text() | st.integers(), st.lists), st.sampled_from(list("kcoabin"))
)
def test_an_event_of_any_form_is_read_or_left_out(value, key) -> None:
    keys = {"k": "kind", "c": "contracts", "o": "outcome", "a": "at", "b": "images", "i": "id"}
    keys["n"] = "containers"
    for line in lines(entry(1)):
        history.read([json.dumps({**json.loads(line), keys[key]: value})])


@pytest.mark.parametrize(
    ("outcomes", "goes_to"),
    [
        ("d", None),
        ("dd", 1),
        ("df", 1),
        ("ddf", 2),
        ("ddff", 2),
        ("ddc", 2),
        ("ddi", 2),
        ("ff", None),
        ("", None),
    ],
)
def test_a_rollback_goes_to_the_last_good_release_that_is_not_in_place(outcomes, goes_to) -> None:
    kinds = {
        "d": DeployOutcome.DEPLOYED,
        "f": DeployOutcome.FAILED,
        "c": DeployOutcome.CUT_OFF,
        "i": DeployOutcome.INTERRUPTED,
    }
    entries = [entry(n, outcome=kinds[letter]) for n, letter in enumerate(outcomes, start=1)]
    found = history.before(entries)
    assert (found and found.id) == (goes_to and f"r{goes_to}")


def test_deploying_the_same_again_does_not_change_where_a_rollback_goes() -> None:
    first, second = entry(1), entry(2)
    again = replace(second, id="r3", outcome=DeployOutcome.UNCHANGED)
    assert history.before([first, second, again]) == first


def test_a_rollback_after_a_rollback_goes_forth_again() -> None:
    first, second = entry(1), entry(2)
    back = replace(first, id="r3", kind=DeployKind.ROLLBACK)
    assert history.before([first, second, back]) == second


def test_a_changed_setting_makes_another_release_of_the_same_tag() -> None:
    first = entry(1)
    louder = replace(first, id="r2", settings={"LOG_LEVEL": "DEBUG"})
    assert history.before([first, louder]) == first


def test_a_release_is_found_by_its_id_and_by_its_tag_if_it_was_good() -> None:
    entries = [entry(1, "a"), entry(2, "b"), entry(3, "a"), entry(4, "c", DeployOutcome.FAILED)]
    assert history.named(entries, "r1") == entries[0]
    assert history.named(entries, "a") == entries[2]
    assert history.named(entries, "c") is None
    assert history.named(entries, "d") is None


def test_a_tag_that_means_another_image_than_before_is_noticed() -> None:
    entries = [
        entry(1, images={"x:a": "sha256:1", "y:a": "sha256:9"}),
        entry(2, images={"x:a": "sha256:2"}, outcome=DeployOutcome.FAILED),
    ]
    now = {"x:a": "sha256:3", "y:a": "sha256:9", "z:a": "sha256:5"}
    assert history.moved(entries, now) == {"x:a": entries[0]}
    assert history.moved(entries, {"x:a": ""}) == {}
