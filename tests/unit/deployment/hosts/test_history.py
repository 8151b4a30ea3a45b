"""History of a host: its lines, and the releases that rollbacks choose from it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.deployment.hosts.history import (
    DeployKind,
    DeployOutcome,
    HistoryEntry,
    find_release,
    last_good,
    missing_way_back,
    moved_tags,
    parse_history,
    previous_release,
)
from tests.unit.deployment.histories import history_entry, history_lines


def with_id(entry: HistoryEntry, deploy_id: str, **changes: Any) -> HistoryEntry:
    """Return a later deploy of the release of an entry."""
    return replace(entry, deploy=replace(entry.deploy, id=deploy_id), **changes)


def test_entries_are_parsed_as_they_were_written() -> None:
    written = (
        history_entry(
            1, images={"a:b": "sha256:1"}, profiles=("scale-2",), contract_migrations=("0003_x",)
        ),
        history_entry(4, containers={"db": "0123456789ab"}),
        history_entry(
            2, outcome=DeployOutcome.FAILED, reason='it\'s "bad"\nreally', rolled_back_from="r1"
        ),
        history_entry(3, outcome=DeployOutcome.CUT_OFF, settings={"LOG_LEVEL": "é"}),
        history_entry(5).with_digests({"a:b": ("sha256:1", "sha256:2"), "c:d": ()}),
        history_entry(6, scale=3, also=("rotated jwt_secret", "ran the hook pre-deploy")),
    )
    assert parse_history(history_lines(*written)) == written


def test_an_end_that_an_older_version_recorded_names_no_containers() -> None:
    begun, ended = history_lines(history_entry(1, containers={"db": "0123456789ab"}))
    old = {key: value for key, value in json.loads(ended).items() if key != "containers"}
    assert parse_history([begun, json.dumps(old)]) == (history_entry(1),)


@given(st.lists(st.text(), max_size=5))
def test_unreadable_lines_are_skipped(noise: list[str]) -> None:
    good = history_entry(1)
    lines = [*noise, *history_lines(good), '{"event":"ended","id":"r9"}', *noise]
    assert good in parse_history(lines)


@given(
    st.recursive(st.none() | st.text() | st.integers(), st.lists, max_leaves=8),
    st.sampled_from(["kind", "contracts", "outcome", "at", "images", "id", "containers"]),
)
def test_an_event_with_any_value_is_parsed_or_skipped(value, key) -> None:
    for line in history_lines(history_entry(1)):
        parse_history([json.dumps({**json.loads(line), key: value})])


@pytest.mark.parametrize(
    ("outcomes", "target"),
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
def test_a_rollback_goes_to_the_last_good_release_that_is_not_deployed(outcomes, target) -> None:
    kinds = {
        "d": DeployOutcome.DEPLOYED,
        "f": DeployOutcome.FAILED,
        "c": DeployOutcome.CUT_OFF,
        "i": DeployOutcome.INTERRUPTED,
    }
    entries = [
        history_entry(number, outcome=kinds[letter])
        for number, letter in enumerate(outcomes, start=1)
    ]
    previous = previous_release(entries)
    assert (previous and previous.id) == (target and f"r{target}")


def test_a_repeated_deploy_does_not_change_the_target_of_a_rollback() -> None:
    first, second = history_entry(1), history_entry(2)
    again = with_id(second, "r3", outcome=DeployOutcome.UNCHANGED)
    assert previous_release([first, second, again]) == first


def test_a_changed_setting_makes_another_release_of_the_same_tag() -> None:
    first = history_entry(1)
    changed = with_id(first, "r2", settings={"LOG_LEVEL": "DEBUG"})
    assert previous_release([first, changed]) == first


def test_only_deploys_of_a_service_or_of_all_services_count_for_it() -> None:
    whole, backend = history_entry(1), history_entry(2, service="backend")
    database = history_entry(3, service="db")
    assert last_good([whole, backend, database], "backend") == backend
    assert last_good([whole, database], "backend") == whole
    assert last_good([whole, database], "all") == database
    assert last_good([database], "backend") is None


def test_a_good_release_is_found_by_its_id_and_by_its_tag() -> None:
    entries = [
        history_entry(1, "a"),
        history_entry(2, "b"),
        history_entry(3, "a"),
        history_entry(4, "c", DeployOutcome.FAILED),
    ]
    assert find_release(entries, "r1") == entries[0]
    assert find_release(entries, "a") == entries[2]
    assert find_release(entries, "c") is None
    assert find_release(entries, "d") is None


def test_a_tag_that_named_another_image_before_has_moved() -> None:
    entries = [
        history_entry(1, images={"x:a": "sha256:1", "y:a": "sha256:9"}),
        history_entry(2, images={"x:a": "sha256:2"}, outcome=DeployOutcome.FAILED),
    ]
    digests = {"x:a": ["sha256:3"], "y:a": ["sha256:9"], "z:a": ["sha256:5"]}
    assert moved_tags(entries, digests) == {"x:a": entries[0]}
    assert moved_tags(entries, {"x:a": ""}) == {}


def back_to(number: int, entry: HistoryEntry, left: HistoryEntry) -> HistoryEntry:
    """Return the rollback from a release to the release of an entry."""
    deploy = history_entry(number).deploy
    return replace(entry, deploy=deploy, kind=DeployKind.ROLLBACK, rolled_back_from=left.id)


def test_a_second_rollback_does_not_return_to_the_release_that_the_first_one_left() -> None:
    first, second, bad = history_entry(1), history_entry(2), history_entry(3)
    back = back_to(4, second, bad)
    assert previous_release([first, second, bad]) == second
    assert previous_release([first, second, bad, back]) == first
    assert previous_release([first, second, bad, back, back_to(5, first, back)]) is None


def test_a_second_rollback_does_not_return_to_an_earlier_deploy_of_the_release_that_was_left():
    first, bad = history_entry(1), history_entry(2)
    again, bad_again = with_id(first, "r3"), with_id(bad, "r4")
    entries = [first, bad, again, bad_again, back_to(5, first, bad_again)]
    assert previous_release(entries) is None


def test_a_release_that_was_left_is_a_target_again_once_it_was_deployed_again() -> None:
    first, bad = history_entry(1), history_entry(2)
    mended = with_id(bad, "r4")
    later = history_entry(5)
    entries = [first, bad, back_to(3, first, bad), mended, later]
    assert previous_release(entries) == mended


def test_a_failed_deploy_after_a_rollback_goes_back_to_where_the_rollback_went() -> None:
    first, bad = history_entry(1), history_entry(2)
    back = back_to(3, first, bad)
    failed = history_entry(4, outcome=DeployOutcome.FAILED)
    assert previous_release([first, bad, back, failed]) == back


def test_a_rollback_forward_to_a_named_release_can_be_taken_back() -> None:
    first, second = history_entry(1), history_entry(2)
    back = back_to(3, first, second)
    forward = back_to(4, second, back)
    assert previous_release([first, second, back, forward]) == back


@pytest.mark.parametrize(
    ("entries", "kept", "reason"),
    [
        ([], [], "its history has no good release"),
        ([history_entry(1, outcome=DeployOutcome.FAILED)], None, "its history has no good release"),
        ([history_entry(1)], ["conf-2.tar.gz"], "it does not keep the configuration of release r1"),
        ([history_entry(1)], ["conf-2.tar.gz", "conf-1.tar.gz"], ""),
        ([history_entry(1)], None, ""),
    ],
)
def test_what_is_missing_for_a_way_back_is_named(entries, kept, reason) -> None:
    found = missing_way_back(entries, "all", kept)
    assert found.startswith(reason)
    assert bool(found) == bool(reason)
