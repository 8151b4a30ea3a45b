"""No way back across what the database has lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ktrdr.deployment.deploy.comparison import Comparison
from ktrdr.deployment.homelab import schema
from ktrdr.deployment.hosts.history import DeployKind, DeployOutcome
from ktrdr.deployment.hosts.host import Host
from ktrdr.errors import Conflict, HostNotReady
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.hosts.test_history import entry

CORE = Host("core", "", "core.test", "/opt/ktrdr-core")
OLD = entry(1, contract_migrations=())
NEW = entry(2, contract_migrations=("0003_setbacks", "0007_leases"))


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
    silent = replace(OLD, contract_migrations=None)
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


IMAGE = "ghcr.io/ktrdr/ktrdr-backend:sha-abc1234"
# The release of the tests' plans, as it ran once.
BEFORE = entry(1, "sha-abc1234", contract_migrations=(), images={IMAGE: "sha256:1"})


def deploy(plan, *history, digest: str = "sha256:1") -> RecordingTransport:
    """Checks the deploy of a plan; the database has seen a contracting migration."""
    transport = RecordingTransport()
    transport.answer(Answer(stdout="0003_setbacks\n"))
    found = Comparison((), (), {}, (), {IMAGE: digest}, tuple(history))
    schema.check_deploy(CORE, [(plan, found)], transport)
    return transport


@pytest.mark.parametrize("target", ["core", "workers"])
def test_an_older_release_is_not_deployed_across_a_contracting_migration(planned, target) -> None:
    with pytest.raises(Conflict, match=r"release r1 \(sha-abc1234\) cannot work .*0003_setbacks"):
        deploy(planned(target), BEFORE, NEW)


def test_the_database_is_not_asked_where_nothing_was_contracted_since(planned) -> None:
    assert deploy(planned(), BEFORE, replace(NEW, contract_migrations=())).runs == []
    assert deploy(planned(), NEW, replace(BEFORE, contract_migrations=NEW.contracts)).runs == []


@pytest.mark.parametrize(
    "unknown",
    [
        {"contracts": None},
        {"outcome": DeployOutcome.FAILED},
        {"tag": "sha-0000001"},
        {"images": {IMAGE: "sha256:2"}},
    ],
)
def test_a_release_that_never_said_what_it_knows_is_deployed(planned, unknown) -> None:
    assert deploy(planned(), replace(BEFORE, **unknown), NEW).runs == []


def test_what_does_not_use_the_database_or_was_checked_before_is_let_through(planned) -> None:
    for asked in (
        {"service": "prometheus"},
        {"skip_validation": True},
        {"kind": DeployKind.AUTOMATIC_ROLLBACK},
    ):
        assert deploy(planned(**asked), BEFORE, NEW).runs == []
