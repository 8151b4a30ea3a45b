"""`ktrdr deploy watch`."""

from __future__ import annotations

from dataclasses import replace

from ktrdr.deployment.hosts.history import DeployKind, DeployOutcome, HistoryEntry
from ktrdr.deployment.hosts.host import DeployId
from ktrdr.errors import DeploymentFailed
from tests.unit.cli.deploy.conftest import CORE, B
from tests.unit.deployment.histories import history_lines
from tests.unit.deployment.sample_hosts import NOW

WATCH, HISTORY = "Usage: watch.sh", "Usage: read_history.sh"
GOOD = HistoryEntry(
    deploy=DeployId("r1", "ada@laptop", NOW),
    kind=DeployKind.DEPLOY,
    service="all",
    tag="sha-0000001",
    commit=None,
    configuration="c",
    outcome=DeployOutcome.DEPLOYED,
)
FAILED = replace(
    GOOD,
    deploy=replace(GOOD.deploy, id="r2"),
    tag="sha-0000002",
    outcome=DeployOutcome.FAILED,
    reason="it was not confirmed",
)
BACK = replace(
    GOOD,
    deploy=replace(GOOD.deploy, id="r2-back"),
    kind=DeployKind.AUTOMATIC_ROLLBACK,
    rolled_back_from="r2",
)


def test_what_a_host_does_is_followed_and_its_end_shown(command) -> None:
    command.answer(B, WATCH, "1764237600 apply sha-0000001", "1764237612 wait until healthy", "")
    command.answer(B, HISTORY, *history_lines(GOOD))
    assert command.run("watch", "workers", "B").output.splitlines() == [
        "workers B: apply sha-0000001",
        "workers B: wait until healthy",
        "workers B: deploy of sha-0000001 deployed",
    ]


def test_a_host_that_went_back_is_a_failure(command) -> None:
    command.answer(CORE, HISTORY, *history_lines(GOOD, FAILED, BACK))
    error = command.error_of(DeploymentFailed, "watch", "core")
    assert error.message == "the last deploy to core failed"
    assert command.run("watch", "core").output.splitlines() == [
        "core: deploy of sha-0000002 failed: it was not confirmed",
        "core: automatic rollback of sha-0000001 deployed",
    ]


def test_a_host_without_a_deploy_has_nothing_to_follow(command) -> None:
    assert command.run("watch", "core").output == "core: nothing was deployed yet\n"
