"""JSON documents of ``--json``: scripts depend on them, so they are frozen here.

A key that disappears or changes its meaning raises the schema; a new one is added to these tests.
"""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass, replace
from typing import Any, get_args

import pytest

from ktrdr.deployment.deploy import events, result
from ktrdr.deployment.deploy.comparison import Action, Comparison, ServiceChange
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.deploy.result import DeployResult, HostResult, ServiceState
from ktrdr.deployment.hosts.containers import parse_containers
from ktrdr.deployment.hosts.history import DeployKind, DeployOutcome
from ktrdr.errors import DeploymentFailed, HostSkipped, HostUnreachable, NotStarted
from tests.unit.deployment.conftest import COMMIT, DEPLOY_ID, TAG, SimulatedHost

IMAGE = f"ghcr.io/ktrdr/ktrdr-backend:{TAG}"


@pytest.fixture
def plan(planned) -> Plan:
    plan: Plan = planned("core", service="backend")
    return plan


@pytest.fixture
def good(plan) -> HostResult:
    host = SimulatedHost(plan).run_all()
    containers = parse_containers([json.dumps(entry) for entry in host.containers.values()])
    return HostResult(
        plan,
        DeployOutcome.DEPLOYED,
        services=(
            ServiceState(ServiceChange("backend", Action.RECREATED), containers["backend"]),
            ServiceState(ServiceChange("old", Action.REMOVED), None),
        ),
        files=("+ .env.core",),
        warnings=("look here",),
        duration_s=1.23456,
    )


@pytest.fixture
def failed(plan) -> HostResult:
    rollback = replace(
        plan.entry,
        deploy=replace(plan.entry.deploy, id="back"),
        kind=DeployKind.AUTOMATIC_ROLLBACK,
        tag="old",
        outcome=DeployOutcome.DEPLOYED,
        duration_s=2.0,
        rolled_back_from=DEPLOY_ID,
    )
    error = DeploymentFailed("it is not healthy", hint="Fix it.")
    return HostResult(plan, DeployOutcome.FAILED, duration_s=9.0, error=error, restored=rollback)


def document(*hosts: HostResult) -> dict[str, Any]:
    """Return the document of a deploy, after a round trip through JSON."""
    result = DeployResult(DEPLOY_ID, hosts, 3.14159, connections=1, scripts=7).to_json()
    parsed: dict[str, Any] = json.loads(json.dumps(result))
    assert parsed == result
    return parsed


def test_the_result_of_a_successful_deploy(good) -> None:
    assert document(good) == {
        "event": "result",
        "schema": 2,
        "ok": True,
        "id": DEPLOY_ID,
        "changed": True,
        "skipped": [],
        "hosts": [
            {
                "target": "core",
                "host": "backend.lab.test",
                "kind": "deploy",
                "service": "backend",
                "tag": TAG,
                "commit": COMMIT,
                "configuration": "commit abc1234",
                "ok": True,
                "outcome": "deployed",
                "changed": True,
                "services": [
                    {
                        "name": "backend",
                        "action": "recreated",
                        "image": IMAGE,
                        "container": "id-of-backend",
                        "status": "running",
                        "health": "healthy",
                    },
                    {
                        "name": "old",
                        "action": "removed",
                        "image": None,
                        "container": None,
                        "status": None,
                        "health": None,
                    },
                ],
                "changed_files": ["+ .env.core"],
                "warnings": ["look here"],
                "duration_s": 1.235,
                "error": None,
                "restored": None,
                "left_to_host": False,
            }
        ],
        "duration_s": 3.142,
        "ssh": {"connections": 1, "scripts": 7},
        "batches": [],
    }


def test_the_result_of_a_failed_deploy_with_automatic_rollback(failed) -> None:
    (host,) = document(failed)["hosts"]
    assert (host["ok"], host["outcome"], host["changed"]) == (False, "failed", False)
    assert host["error"] == {
        "kind": "failed",
        "message": "it is not healthy",
        "hint": "Fix it.",
        "exit_code": 8,
    }
    assert host["restored"] == {
        "id": "back",
        "kind": "automatic rollback",
        "service": "backend",
        "tag": "old",
        "commit": COMMIT,
        "configuration": failed.plan.entry.configuration,
        "who": "ada@laptop",
        "at": "2026-11-23T12:00:00.000+00:00",
        "profiles": [],
        "settings": dict(failed.plan.entry.settings),
        "of": DEPLOY_ID,
        "outcome": "deployed",
        "duration_s": 2.0,
        "images": {},
        "containers": {},
        "reason": "",
        "contracts": None,
        "skipped": [],
    }


@pytest.mark.parametrize("header", ["key of the result", "key of a host"])
def test_exactly_the_keys_of_the_result_are_documented(good, root, header) -> None:
    page = (root / "docs/deploying.md").read_text()
    table = page.partition(f"| {header} |")[2].partition("\n\n")[0]
    cells = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    result = document(good)
    keys = result if header == "key of the result" else result["hosts"][0]
    documented = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    # A deploy that did not start has an error instead of hosts.
    assert documented - {"error"} == set(keys) - {"event", "error"}


def test_the_result_of_a_host_that_did_not_start(plan) -> None:
    (host,) = document(HostResult(plan, None, error=HostUnreachable("away")))["hosts"]
    assert (host["outcome"], host["ok"]) == ("not begun", False)
    assert host["error"]["exit_code"] == 5


def test_the_result_of_a_skipped_host(good, plan) -> None:
    whole = document(good, HostResult(plan, None, error=HostSkipped("core was skipped: it is off")))
    assert (whole["ok"], whole["skipped"]) == (False, ["core"])
    host = whole["hosts"][1]
    assert (host["outcome"], host["ok"], host["changed"]) == ("skipped", False, False)
    assert (host["error"]["kind"], host["error"]["exit_code"]) == ("skipped", 11)


def test_a_deploy_is_good_only_if_every_host_is(good, failed) -> None:
    both = document(good, failed)
    assert (both["ok"], both["changed"]) == (False, True)


def test_hosts_that_failed_come_before_hosts_that_did_not_start(good, failed, plan) -> None:
    not_started = HostResult(plan, None, error=NotStarted("because of core"))
    unready = HostResult(plan, None, error=HostUnreachable("away"))
    result = DeployResult("x", (not_started, good, unready, failed), 0.0, 0, 0)
    assert result.failed == (unready, failed, not_started)


def test_the_result_of_a_deploy_that_did_not_start_is_its_error() -> None:
    assert result.failure_to_json(HostUnreachable("away", hint="Come closer.")) == {
        "event": "result",
        "schema": 2,
        "ok": False,
        "error": {
            "kind": "unreachable",
            "message": "away",
            "hint": "Come closer.",
            "exit_code": 5,
        },
    }


def test_the_document_of_a_dry_run(plan) -> None:
    plans = result.plans_to_json([plan])
    (host,) = plans.pop("hosts")
    batches = [["core"]]
    assert plans == {
        "event": "plan", "schema": 2, "ok": True, "dry_run": True, "batches": batches
    }  # fmt: skip
    steps = host.pop("steps")
    assert list(host) == [
        *("target", "host", "kind", "service", "tag", "commit", "configuration"),
    ]
    assert [step["kind"] for step in steps] == [
        *("lock", "check", "fetch", "start", "apply", "verify", "record"),
    ]
    assert {tuple(step) for step in steps} == {
        ("kind", "host", "title", "timeout_s", "secrets", "script")
    }
    assert json.loads(json.dumps(plans)) == plans


# ----------------------------------------------------------------------------------- events


def examples(plan: Plan) -> list[tuple[Any, dict[str, Any]]]:
    """Return one event of each kind, with its JSON form."""
    changes = (ServiceChange("db", Action.RECREATED, "a → b"),)
    return [
        (events.StepStarted("apply", "a-host"), {"event": "step_started", "title": "apply"}),
        (
            events.StepFinished("apply", 1.5, "3 created"),
            {"event": "step_finished", "title": "apply", "duration_s": 1.5, "detail": "3 created"},
        ),
        (
            events.StepFailed("apply", 1.5),
            {"event": "step_failed", "title": "apply", "duration_s": 1.5},
        ),
        (
            events.StepSkipped("apply", "nothing to do"),
            {"event": "step_skipped", "title": "apply", "reason": "nothing to do"},
        ),
        (
            events.Output("stderr", "pulling"),
            {"event": "output", "stream": "stderr", "line": "pulling"},
        ),
        (events.Waiting("db is starting"), {"event": "waiting", "reason": "db is starting"}),
        (
            events.Compared(Comparison(changes, ("+ a",), before={}, destructive_effects=())),
            {
                "event": "compared",
                "services": [{"name": "db", "action": "recreated", "reason": "a → b"}],
                "changed_files": ["+ a"],
            },
        ),
        (
            events.LogTail("db", ("one", "two")),
            {"event": "log", "service": "db", "lines": ["one", "two"]},
        ),
        (
            events.HookOutput("pre-deploy", "go on"),
            {"event": "hook", "hook": "pre-deploy", "line": "go on"},
        ),
        (events.Warned("careful"), {"event": "warning", "message": "careful"}),
        (
            events.RollbackStarted(plan.entry, "it is unhealthy"),
            {"event": "restoring", "release": DEPLOY_ID, "tag": TAG, "reason": "it is unhealthy"},
        ),
        (
            events.BatchStarted(1, 2, ("core",)),
            {"event": "batch_started", "number": 1, "total": 2, "hosts": ["core"]},
        ),
    ]


def test_every_kind_of_event_has_its_documented_json_form(plan) -> None:
    for event, document in examples(plan):
        assert json.loads(json.dumps(events.to_json(event))) == document
    kinds = {type(event) for event, _ in examples(plan)}
    assert kinds == set(get_args(events.Event)) == set(events.NAMES)


def test_no_event_has_a_key_that_every_line_has() -> None:
    """Each line has the event's name, and receives target and time."""
    for kind in events.NAMES:
        assert is_dataclass(kind)
        assert not {field.name for field in fields(kind)} & {"event", "target", "at"}
