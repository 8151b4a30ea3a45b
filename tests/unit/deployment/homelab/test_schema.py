"""Schema check: releases that need what a contract migration removed are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ktrdr.deployment.deploy.comparison import Comparison
from ktrdr.deployment.homelab import schema
from ktrdr.deployment.hosts.history import DeployKind, DeployOutcome
from ktrdr.deployment.hosts.host import Host
from ktrdr.errors import Conflict, HostNotReady
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.histories import history_entry

CORE = Host("core", "core.test", "/opt/ktrdr-core", "core", "ktrdr-core", "/run/ktrdr/ktrdr-core")
OLD = history_entry(1, contract_migrations=())
NEW = history_entry(2, contract_migrations=("0003_setbacks", "0007_leases"))


@pytest.mark.parametrize(
    ("applied", "unknown"),
    [
        ([], []),
        (["0001_operations", "0008_later"], []),
        (["0001_operations", "0003_setbacks"], ["0003_setbacks"]),
        (["0003_setbacks", "0007_leases"], ["0003_setbacks", "0007_leases"]),
    ],
)
def test_only_contract_migrations_that_a_release_does_not_know_exclude_it(applied, unknown) -> None:
    assert schema.unknown_migrations(applied, OLD, [OLD, NEW]) == unknown
    assert schema.unknown_migrations(applied, NEW, [OLD, NEW]) == []


def test_a_release_that_did_not_report_its_migrations_counts_as_knowing_none() -> None:
    silent = replace(OLD, contract_migrations=None)
    assert schema.unknown_migrations(["0003_setbacks"], silent, [silent, NEW]) == ["0003_setbacks"]


def test_the_error_names_release_and_migration() -> None:
    transport = RecordingTransport()
    transport.answer(Answer(stdout="0001_operations\n0003_setbacks\n"))
    with pytest.raises(Conflict, match=r"release r1 \(sha-0000001\).*0003_setbacks"):
        schema.require_compatible(CORE, OLD, [OLD, NEW], transport)
    schema.require_compatible(CORE, NEW, [OLD, NEW], transport)


def test_a_database_that_cannot_be_queried_is_an_error() -> None:
    transport = RecordingTransport()
    transport.answer(Answer(1, stderr="the database does not run\n"))
    with pytest.raises(HostNotReady, match="does not run"):
        schema.require_compatible(CORE, OLD, [OLD, NEW], transport)


IMAGE = "ghcr.io/ktrdr/ktrdr-backend:sha-abc1234"
# An earlier deploy of the release that the tests' plans deploy.
BEFORE = history_entry(1, "sha-abc1234", contract_migrations=(), images={IMAGE: "sha256:1"})


def check_deploy(plan, *history, digest: str = "sha256:1") -> RecordingTransport:
    """Check the deploy of a plan, with a database to which a contract migration was applied."""
    transport = RecordingTransport()
    transport.answer(Answer(stdout="0003_setbacks\n"))
    comparison = Comparison((), (), {}, (), {IMAGE: (digest,)}, tuple(history))
    schema.check_deploy(CORE, [(plan, comparison)], transport)
    return transport


@pytest.mark.parametrize("target", ["core", "workers"])
def test_a_release_from_before_a_contract_migration_is_not_deployed(planned, target) -> None:
    with pytest.raises(Conflict, match=r"release r1 \(sha-abc1234\) cannot work .*0003_setbacks"):
        check_deploy(planned(target), BEFORE, NEW)


def test_the_database_is_queried_only_after_a_later_contract_migration(planned) -> None:
    none_later = replace(NEW, contract_migrations=())
    assert check_deploy(planned(), BEFORE, none_later).runs == []
    none_unknown = replace(BEFORE, contract_migrations=NEW.contract_migrations)
    assert check_deploy(planned(), NEW, none_unknown).runs == []


@pytest.mark.parametrize(
    "changes",
    [
        {"contract_migrations": None},
        {"outcome": DeployOutcome.FAILED},
        {"tag": "sha-0000001"},
        {"images": {IMAGE: "sha256:2"}},
    ],
)
def test_a_release_whose_migrations_are_unknown_is_deployed(planned, changes) -> None:
    assert check_deploy(planned(), replace(BEFORE, **changes), NEW).runs == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"service": "prometheus"},
        {"skip_validation": True},
        {"kind": DeployKind.AUTOMATIC_ROLLBACK},
    ],
)
def test_deploys_that_do_not_use_the_database_or_were_checked_pass(planned, arguments) -> None:
    assert check_deploy(planned(**arguments), BEFORE, NEW).runs == []
