"""Summary of a deploy: sentences and tables for the operator."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from ktrdr.cli.deploy_summary import failure, show_plan, show_result, verdict
from ktrdr.deployment.deploy.comparison import Action, ServiceChange
from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.deploy.plan import Plan, make_plan
from ktrdr.deployment.deploy.result import DeployResult, HostResult, ServiceState
from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.homelab.hosts import select_hosts
from ktrdr.deployment.homelab.inventory import Inventory, add_defaults
from ktrdr.deployment.hosts.containers import parse_containers
from ktrdr.deployment.hosts.history import DeployKind, DeployOutcome, HistoryEntry
from ktrdr.deployment.hosts.host import DeployId
from ktrdr.deployment.releases.release import Release
from ktrdr.errors import (
    DeploymentFailed,
    HostSkipped,
    HostUnreachable,
    Interrupted,
    KtrdrError,
    NotStarted,
)
from tests.unit.deployment.conftest import COMMIT, CORE, NOW, TAG, WORKERS, SimulatedHost

UNREACHABLE = HostUnreachable("it cannot be reached", hint="Check it.")
FILES = {
    "docker-compose.core.yml": CORE.encode(),
    "docker-compose.workers.yml": WORKERS.encode(),
    ".env.core": b"",
    ".env.workers": b"",
}
INVENTORY = Inventory.model_validate(
    add_defaults({"domain": "lab.test", "workers": {"B": None, "C": None}})
)


def plan(name: str, tag: str = TAG) -> Plan:
    (host,) = select_hosts(INVENTORY, name.split())
    release, deploy_id = Release(tag, COMMIT, FILES), DeployId("r2", "ada@laptop", NOW)
    return make_plan(Homelab(INVENTORY), host, release, deploy_id, DeployOptions())


def deployed(name: str = "core", action: Action = Action.RECREATED, tag: str = TAG) -> HostResult:
    planned = plan(name, tag)
    entries = SimulatedHost(planned).run_all().containers.values()
    containers = parse_containers([json.dumps(entry) for entry in entries])
    services = tuple(
        ServiceState(ServiceChange(service, action), container)
        for service, container in containers.items()
    )
    outcome = DeployOutcome.UNCHANGED if action is Action.UNCHANGED else DeployOutcome.DEPLOYED
    return HostResult(planned, outcome, services, duration_s=1.5)


def failed(name: str = "core", error: KtrdrError | None = None, **changes: Any) -> HostResult:
    raised = error or DeploymentFailed("backend is unhealthy", hint="Fix it.")
    outcome = DeployOutcome.INTERRUPTED if isinstance(raised, Interrupted) else DeployOutcome.FAILED
    return HostResult(plan(name), **{"outcome": outcome, "error": raised, **changes})


def not_started(name: str) -> HostResult:
    return HostResult(plan(name), None, error=NotStarted(f"{name} was not changed"))


def rollback(outcome: DeployOutcome) -> HistoryEntry:
    return replace(
        plan("core").entry, tag="sha-0000001", kind=DeployKind.AUTOMATIC_ROLLBACK, outcome=outcome
    )


def rolled_back(outcome: DeployOutcome) -> HostResult:
    """Return the result of a host whose automatic rollback ended so."""
    return failed(restored=rollback(outcome))


def result(*hosts: HostResult) -> DeployResult:
    return DeployResult("r2", hosts, 12.34, connections=len(hosts), scripts=9)


def shown(*hosts: HostResult, width: int = 80) -> list[str]:
    """Return the printed lines."""
    console = Console(file=io.StringIO(), width=width, highlight=False)
    show_result(console, result(*hosts))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        (deployed(), f"{TAG} runs, with the configuration of commit abc1234."),
        (
            deployed(action=Action.UNCHANGED),
            f"Nothing was changed or restarted: {TAG} runs already.",
        ),
        (rolled_back(DeployOutcome.DEPLOYED), f"{TAG} failed; sha-0000001 runs again."),
        (
            rolled_back(DeployOutcome.FAILED),
            f"{TAG} failed, and so did the rollback to sha-0000001.",
        ),
        (failed(), f"{TAG} failed; its changes stay in place."),
        (failed(is_left=True), f"{TAG} failed; the host ends the deploy by itself."),
        (
            failed(error=Interrupted("stop")),
            f"{TAG} was interrupted; its changes stay in place.",
        ),
        (failed(error=UNREACHABLE, outcome=None), "Nothing was changed."),
    ],
)
def test_the_verdict_on_one_host_is_one_sentence(host: HostResult, sentence: str) -> None:
    assert verdict(result(host)) == sentence


def test_the_verdict_on_several_hosts_counts_them() -> None:
    assert verdict(result(deployed(), failed("workers B"))) == f"{TAG} runs on 1 of 2 hosts."
    assert verdict(result(failed(), not_started("workers B"))) == f"{TAG} runs on 0 of 2 hosts."


def test_the_verdict_on_a_rollback_to_different_releases_names_all_of_them() -> None:
    both = result(deployed("workers B", tag="a"), deployed("workers C", tag="b"))
    assert verdict(both) == "a and b run, with the configuration of commit abc1234."


def test_one_host_is_shown_with_its_services() -> None:
    assert shown(deployed()) == [
        "",
        "core on backend.lab.test",
        "  service      version       state     this deploy",
        "  db           2             healthy   recreated",
        "  backend      sha-abc1234   healthy   recreated",
        "  prometheus   v3            healthy   recreated",
        f"{TAG} runs, with the configuration of commit abc1234.",
        "12.3 s, 1 SSH connection, 9 scripts; release r2",
    ]


def test_removed_services_and_changed_files_are_shown() -> None:
    removed = ServiceState(ServiceChange("old", Action.REMOVED), None)
    lines = shown(replace(deployed(), services=(removed,), files=("+ a.yml", "- b.yml")))
    assert "  old                 removed   removed" in lines
    assert "  configuration changed: a.yml, b.yml" in lines
    many = replace(deployed(), files=tuple(f"+ {number}" for number in range(9)))
    assert "  configuration changed: 9 files" in shown(many)


def test_several_hosts_are_shown_with_their_versions() -> None:
    lines = shown(
        deployed(action=Action.UNCHANGED),
        failed("workers B", duration_s=9.0, restored=rollback(DeployOutcome.DEPLOYED)),
        not_started("workers C"),
    )
    assert lines == [
        "",
        "host        version       services    this deploy           took",
        "core        sha-abc1234   3 healthy   unchanged             1.5 s",
        "workers B   sha-0000001               failed, rolled back   9.0 s",
        "workers C   as before                 not started",
        "  ✗ workers B: backend is unhealthy",
        "  ✗ workers C: workers C was not changed",
        f"{TAG} runs on 1 of 3 hosts.",
        "12.3 s, 3 SSH connections, 9 scripts; release r2",
    ]


@pytest.mark.parametrize(
    ("host", "outcome"),
    [
        (rolled_back(DeployOutcome.FAILED), "failed, rollback failed"),
        (failed(error=Interrupted("stop")), "interrupted"),
        (failed(), "failed"),
        (deployed(), "3 changed"),
        (
            replace(deployed(action=Action.UNCHANGED), outcome=DeployOutcome.DEPLOYED),
            "configuration",
        ),
    ],
)
def test_the_outcome_of_a_host_is_named_in_few_words(host: HostResult, outcome: str) -> None:
    line = shown(host, not_started("workers B"))[2]
    assert f" {outcome}" in line


def test_brackets_in_an_error_are_shown_literally() -> None:
    error = DeploymentFailed("exit [/] [bold]")
    assert "  ✗ core: exit [/] [bold]" in shown(failed(error=error), not_started("workers B"))


# ------------------------------------------------------------------- error of the command


def test_the_error_of_the_only_failed_host_is_that_of_the_command() -> None:
    host = failed()
    assert failure(result(deployed("workers B"), host)) is host.error


def test_the_hint_after_a_rollback_does_not_suggest_a_rollback() -> None:
    host = rolled_back(DeployOutcome.DEPLOYED)
    error = failure(result(host))
    assert host.error
    assert (type(error), error.message) == (type(host.error), host.error.message)
    assert error.hint
    assert error.hint.startswith("sha-0000001 runs again")
    without_release = rolled_back(DeployOutcome.FAILED)
    assert failure(result(without_release)) is without_release.error


def test_the_error_is_that_of_the_failed_host_and_not_of_hosts_that_did_not_start() -> None:
    host = failed("workers B", UNREACHABLE, outcome=None)
    error = failure(result(not_started("core"), host, not_started("workers C")))
    assert error is host.error
    assert error.exit_code == 5


def test_the_error_of_several_failures_counts_them_and_quotes_the_first() -> None:
    hosts = (not_started("core"), failed("workers B", UNREACHABLE), failed("workers C"))
    error = failure(result(*hosts))
    assert error.message == (
        "2 hosts failed (workers B, workers C), the first with: it cannot be reached"
    )
    assert (error.hint, error.exit_code) == ("Check it.", 5)


def test_a_plan_is_shown_step_by_step_without_secrets() -> None:
    console = Console(file=io.StringIO(), width=80, highlight=False)
    show_plan(console, plan("core"), whole=False)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert re.findall(r"^# Step (\d) of 7: (.*) \(at most .* s\)$", text, re.MULTILINE) == [
        *(("1", "lock"), ("2", "check the host"), ("3", "fetch the release")),
        *(("4", "start a test container"), ("5", "apply"), ("6", "wait until healthy")),
        ("7", "record"),
    ]
    assert 'export DB_PASSWORD="${DB_PASSWORD:?}"' in text


# ------------------------------------------------------------------------------- skipped hosts


def skipped(name: str) -> HostResult:
    error = HostSkipped(f"{name} was skipped: it is off", hint="Deploy it later.")
    return HostResult(plan(name), None, error=error)


def test_a_skipped_host_is_shown_as_skipped() -> None:
    lines = shown(deployed(), deployed("workers B"), skipped("workers C"))
    (row,) = [line for line in lines if line.startswith("workers C")]
    assert row.split() == ["workers", "C", "as", "before", "skipped"]
    assert f"{TAG} runs on 2 of 3 hosts." in lines


def test_a_deploy_that_only_skipped_hosts_ends_with_a_code_of_its_own() -> None:
    one = failure(result(deployed(), skipped("workers C")))
    assert (one.exit_code, one.message) == (11, "workers C was skipped: it is off")
    both = failure(result(deployed(), skipped("workers B"), skipped("workers C")))
    assert (both.exit_code, both.hint) == (11, "Deploy it later.")
    assert both.message == "2 hosts were skipped; workers B was skipped: it is off"


def test_a_failure_determines_the_code_although_a_host_was_skipped() -> None:
    error = failure(result(failed(), not_started("workers B"), skipped("workers C")))
    assert (error.exit_code, error.message) == (8, "backend is unhealthy")
