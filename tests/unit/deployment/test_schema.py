"""No way back across what the database has lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ktrdr.deployment import schema
from ktrdr.deployment.targets import Place
from ktrdr.deployment.transport.recording import Answer, RecordingTransport
from ktrdr.errors import Conflict, HostNotReady
from tests.unit.deployment.test_history import entry

CORE = Place("core", "", "core.test", "/opt/ktrdr-core")
OLD = entry(1, contracts=())
NEW = entry(2, contracts=("0003_setbacks", "0007_leases"))


@pytest.mark.parametrize(
    ("applied", "missing"),
    [
        ([], []),
        (["0001_operations", "0008_later"], []),
        (["0001_operations", "0003_setbacks"], ["0003_setbacks"]),
        (["0003_setbacks", "0007_leases"], ["0003_setbacks", "0007_leases"]),
    ],
)
def test_only_contracting_migrations_that_a_release_does_not_know_stand_in_its_way(
    applied, missing
) -> None:
    assert schema.beyond(applied, OLD, [OLD, NEW]) == missing
    assert schema.beyond(applied, NEW, [OLD, NEW]) == []


def test_a_release_that_never_said_what_it_knows_is_taken_to_know_nothing() -> None:
    silent = replace(OLD, contracts=None)
    assert schema.beyond(["0003_setbacks"], silent, [silent, NEW]) == ["0003_setbacks"]


def test_the_refusal_names_release_and_migration() -> None:
    transport = RecordingTransport()
    transport.answer(Answer(stdout="0001_operations\n0003_setbacks\n"))
    with pytest.raises(Conflict, match=r"release r1 \(sha-0000001\).*0003_setbacks"):
        schema.check(CORE, OLD, [OLD, NEW], transport)
    schema.check(CORE, NEW, [OLD, NEW], transport)


def test_a_database_that_cannot_be_asked_is_no_yes() -> None:
    transport = RecordingTransport()
    transport.answer(Answer(1, stderr="the database does not run\n"))
    with pytest.raises(HostNotReady, match="does not run"):
        schema.check(CORE, OLD, [OLD, NEW], transport)
