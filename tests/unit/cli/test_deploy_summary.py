"""How deploys end, in the words and tables that a person reads."""

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
from ktrdr.deployment.deploy.plan import Plan, Request, Stamp, make
from ktrdr.deployment.deploy.result import DeployResult, HostResult, ServiceState
from ktrdr.deployment.homelab.inventory import Inventory, with_defaults
from ktrdr.deployment.hosts.containers import read_containers
from ktrdr.deployment.hosts.history import Kind, Outcome
from ktrdr.deployment.releases.release import Release
from ktrdr.errors import DeploymentFailed, HostUnreachable, Interrupted, KtrdrError, NotBegun
from tests.unit.deployment.conftest import COMMIT, CORE, NOW, TAG, WORKERS, Host

FILES = {
    "docker-compose.core.yml": CORE.encode(),
    "docker-compose.workers.yml": WORKERS.encode(),
    ".env.core": b"",
    ".env.workers": b"",
}
INVENTORY = Inventory.model_validate(
    with_defaults({"domain": "lab.test", "workers": {"B": None, "C": None}})
)


def plan(name: str, tag: str = TAG) -> Plan:
    target, _, node = name.partition(" ")
    request = Request("workers", node) if target == "workers" else Request("core")
    return make(INVENTORY, request, Release(tag, COMMIT, FILES), Stamp("r2", "ada@laptop", NOW))


def good(name: str = "core", action: Action = Action.RECREATED, tag: str = TAG) -> HostResult:
    planned = plan(name, tag)
    entries = Host(planned).run_all().containers.values()
    containers = read_containers([json.dumps(entry) for entry in entries])
    services = tuple(
        ServiceState(ServiceChange(service, action), container)
        for service, container in containers.items()
    )
    outcome = Outcome.UNCHANGED if action is Action.UNCHANGED else Outcome.DEPLOYED
    return HostResult(planned, outcome, services, duration_s=1.5)


def bad(name: str = "core", error: KtrdrError | None = None, **more: Any) -> HostResult:
    raised = error or DeploymentFailed("backend is not well", hint="Mend it.")
    outcome = Outcome.INTERRUPTED if isinstance(raised, Interrupted) else Outcome.FAILED
    return HostResult(plan(name), **{"outcome": outcome, "error": raised, **more})


def alone(name: str) -> HostResult:
    return HostResult(plan(name), None, error=NotBegun(f"{name} was left as it was"))


def restored(outcome: Outcome) -> HostResult:
    entry = replace(plan("core").entry, tag="sha-0000001", kind=Kind.RESTORE, outcome=outcome)
    return bad(restored=entry)


def result(*hosts: HostResult) -> DeployResult:
    return DeployResult("r2", hosts, 12.34, connections=len(hosts), scripts=9)


def shown(*hosts: HostResult, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    show_result(console, result(*hosts))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (good(), f"{TAG} runs, with the configuration of commit abc1234."),
        (
            good(action=Action.UNCHANGED),
            f"Nothing changed, nothing restarted: {TAG} runs already.",
        ),
        (restored(Outcome.DEPLOYED), f"{TAG} failed; sha-0000001 runs again."),
        (
            restored(Outcome.FAILED),
            f"{TAG} failed, and so did the way back to sha-0000001.",
        ),
        (bad(), f"{TAG} was not brought to its end; what was changed stays as it is."),
        (
            bad(error=Interrupted("stop")),
            f"{TAG} was not brought to its end; what was changed stays as it is.",
        ),
        (bad(error=HostUnreachable("away"), outcome=None), "Nothing was changed."),
    ],
)
def test_the_end_of_a_deploy_to_one_host_is_one_sentence(host: HostResult, words: str) -> None:
    assert verdict(result(host)) == words


def test_the_end_of_a_deploy_to_several_hosts_counts_them() -> None:
    assert verdict(result(good(), bad("workers B"))) == f"{TAG} runs on 1 of 2 hosts."
    assert verdict(result(bad(), alone("workers B"))) == f"{TAG} runs on 0 of 2 hosts."


def test_hosts_that_went_back_to_different_releases_are_not_said_to_run_the_same() -> None:
    both = result(good("workers B", tag="a"), good("workers C", tag="b"))
    assert verdict(both) == "a and b run, with the configuration of commit abc1234."


def test_one_host_is_shown_with_its_services() -> None:
    assert shown(good()) == [
        "",
        "core on backend.lab.test",
        "  service      version       state     this deploy",
        "  db           2             healthy   recreated",
        "  backend      sha-abc1234   healthy   recreated",
        "  prometheus   v3            healthy   recreated",
        f"{TAG} runs, with the configuration of commit abc1234.",
        "12.3 s, 1 SSH connection, 9 scripts; release r2",
    ]


def test_a_service_that_is_gone_and_files_that_changed_are_shown() -> None:
    gone = ServiceState(ServiceChange("old", Action.REMOVED), None)
    lines = shown(replace(good(), services=(gone,), files=("+ a.yml", "- b.yml")))
    assert "  old                 gone    removed" in lines
    assert "  configuration changed: a.yml, b.yml" in lines
    many = replace(good(), files=tuple(f"+ {number}" for number in range(9)))
    assert "  configuration changed: 9 files" in shown(many)


def test_several_hosts_are_shown_with_what_runs_where() -> None:
    back = replace(plan("core").entry, tag="sha-0000001", outcome=Outcome.DEPLOYED)
    lines = shown(
        good(action=Action.UNCHANGED),
        bad("workers B", duration_s=9.0, restored=back),
        alone("workers C"),
    )
    assert lines == [
        "",
        "host        version       services    this deploy         took",
        "core        sha-abc1234   3 healthy   unchanged           1.5 s",
        "workers B   sha-0000001               failed, went back   9.0 s",
        "workers C   as before                 not begun",
        "  ✗ workers B: backend is not well",
        "  ✗ workers C: workers C was left as it was",
        f"{TAG} runs on 1 of 3 hosts.",
        "12.3 s, 3 SSH connections, 9 scripts; release r2",
    ]


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (restored(Outcome.FAILED), "failed, could not go back"),
        (bad(error=Interrupted("stop")), "interrupted"),
        (bad(), "failed"),
        (good(), "3 changed"),
        (replace(good(action=Action.UNCHANGED), outcome=Outcome.DEPLOYED), "configuration"),
    ],
)
def test_what_became_of_a_host_is_said_in_few_words(host: HostResult, words: str) -> None:
    line = shown(host, alone("workers B"))[2]
    assert f" {words}" in line


def test_what_stands_in_brackets_is_no_colour() -> None:
    error = DeploymentFailed("exit [/] [bold]")
    assert "  ✗ core: exit [/] [bold]" in shown(bad(error=error), alone("workers B"))


# --------------------------------------------------------------- what the command ends with


def test_one_failure_is_the_error() -> None:
    host = bad()
    assert failure(result(good("workers B"), host)) is host.error


def test_a_host_that_went_back_is_not_told_to_go_back() -> None:
    host = restored(Outcome.DEPLOYED)
    error = failure(result(host))
    assert host.error
    assert (type(error), error.message) == (type(host.error), host.error.message)
    assert error.hint
    assert error.hint.startswith("sha-0000001 runs again")
    stuck = restored(Outcome.FAILED)
    assert failure(result(stuck)) is stuck.error


def test_whoever_is_to_blame_gives_the_error_and_not_those_that_were_left_alone() -> None:
    host = bad("workers B", HostUnreachable("away"), outcome=None)
    error = failure(result(alone("core"), host, alone("workers C")))
    assert error is host.error
    assert error.exit_code == 5


def test_several_failures_are_counted_and_the_first_is_told() -> None:
    hosts = (alone("core"), bad("workers B", HostUnreachable("away", hint="Go.")), bad("workers C"))
    error = failure(result(*hosts))
    assert error.message == "2 hosts failed (workers B, workers C), the first with: away"
    assert (error.hint, error.exit_code) == ("Go.", 5)


def test_a_plan_is_shown_step_by_step_without_secrets() -> None:
    console = Console(file=io.StringIO(), width=80, highlight=False)
    show_plan(console, plan("core"), whole=False)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert re.findall(r"^# Step (\d) of 6: (.*) \(at most .* s\)$", text, re.MULTILINE) == [
        *(("1", "lock"), ("2", "check the host"), ("3", "fetch the release")),
        *(("4", "apply"), ("5", "wait until healthy"), ("6", "record")),
    ]
    assert 'export DB_PASSWORD="${DB_PASSWORD:?}"' in text
