"""What ``--json`` prints: a contract with scripts, frozen here.

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
from ktrdr.deployment.hosts.containers import read_containers
from ktrdr.deployment.hosts.history import Kind, Outcome
from ktrdr.errors import DeploymentFailed, HostUnreachable, NotStarted
from tests.unit.deployment.conftest import COMMIT, STAMP_ID, TAG, Host

IMAGE = f"ghcr.io/ktrdr/ktrdr-backend:{TAG}"


@pytest.fixture
def plan(planned) -> Plan:
    made: Plan = planned("core", service="backend")
    return made


@pytest.fixture
def good(plan) -> HostResult:
    host = Host(plan).run_all()
    containers = read_containers([json.dumps(entry) for entry in host.containers.values()])
    return HostResult(
        plan,
        Outcome.DEPLOYED,
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
    back = replace(
        plan.entry,
        id="back",
        kind=Kind.RESTORE,
        tag="old",
        outcome=Outcome.DEPLOYED,
        duration_s=2.0,
        of=STAMP_ID,
    )
    error = DeploymentFailed("it is not healthy", hint="Mend it.")
    return HostResult(plan, Outcome.FAILED, duration_s=9.0, error=error, restored=back)


def document(*hosts: HostResult) -> dict[str, Any]:
    """What is printed, after a way through JSON."""
    found = DeployResult(STAMP_ID, hosts, 3.14159, connections=1, scripts=7).to_json()
    read: dict[str, Any] = json.loads(json.dumps(found))
    assert read == found
    return read


def test_the_result_of_a_deploy_that_went_well(good) -> None:
    assert document(good) == {
        "event": "result",
        "schema": 2,
        "ok": True,
        "id": STAMP_ID,
        "changed": True,
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
            }
        ],
        "duration_s": 3.142,
        "ssh": {"connections": 1, "scripts": 7},
    }


def test_the_result_of_a_deploy_that_failed_and_went_back(failed) -> None:
    (host,) = document(failed)["hosts"]
    assert (host["ok"], host["outcome"], host["changed"]) == (False, "failed", False)
    assert host["error"] == {
        "kind": "failed",
        "message": "it is not healthy",
        "hint": "Mend it.",
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
        "of": STAMP_ID,
        "outcome": "deployed",
        "duration_s": 2.0,
        "images": {},
        "containers": {},
        "reason": "",
        "contracts": None,
    }


@pytest.mark.parametrize("header", ["key of the result", "key of a host"])
def test_every_key_is_documented_and_no_other(good, root, header) -> None:
    page = (root / "docs/deploying.md").read_text()
    table = page.partition(f"| {header} |")[2].partition("\n\n")[0]
    cells = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    found = document(good)
    keys = found if header == "key of the result" else found["hosts"][0]
    documented = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    # Where nothing was begun, there is an error instead of hosts.
    assert documented - {"error"} == set(keys) - {"event", "error"}


def test_a_host_that_was_not_begun(plan) -> None:
    (host,) = document(HostResult(plan, None, error=HostUnreachable("away")))["hosts"]
    assert (host["outcome"], host["ok"]) == ("not begun", False)
    assert host["error"]["exit_code"] == 5


def test_all_is_well_only_if_every_host_is(good, failed) -> None:
    both = document(good, failed)
    assert (both["ok"], both["changed"]) == (False, True)


def test_those_to_blame_come_before_those_that_were_left_alone(good, failed, plan) -> None:
    alone = HostResult(plan, None, error=NotStarted("because of core"))
    unready = HostResult(plan, None, error=HostUnreachable("away"))
    found = DeployResult("x", (alone, good, unready, failed), 0.0, 0, 0).failed
    assert found == (unready, failed, alone)


def test_where_nothing_was_begun_there_is_the_error_alone() -> None:
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


def test_a_plan_as_it_is_shown(plan) -> None:
    shown = result.plans_to_json([plan])
    (host,) = shown.pop("hosts")
    assert shown == {"event": "plan", "schema": 2, "ok": True, "dry_run": True}
    steps = host.pop("steps")
    assert list(host) == [
        *("target", "host", "kind", "service", "tag", "commit", "configuration"),
    ]
    assert [step["kind"] for step in steps] == [
        *("lock", "check", "fetch", "apply", "verify", "record"),
    ]
    assert {tuple(step) for step in steps} == {
        ("kind", "host", "title", "timeout_s", "secrets", "script")
    }
    assert json.loads(json.dumps(shown)) == shown


# ----------------------------------------------------------------------------------- events


def told(plan: Plan) -> list[tuple[Any, dict[str, Any]]]:
    """One event of each kind, with what is printed of it."""
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
            events.Compared(Comparison(changes, ("+ a",), before={}, losses=())),
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
            events.HookSaid("pre-deploy", "go on"),
            {"event": "hook", "hook": "pre-deploy", "line": "go on"},
        ),
        (events.Warned("careful"), {"event": "warning", "message": "careful"}),
        (
            events.Restoring(plan.entry, "it is sick"),
            {"event": "restoring", "release": STAMP_ID, "tag": TAG, "reason": "it is sick"},
        ),
    ]


def test_every_kind_of_event_is_printed_as_the_documentation_says(plan) -> None:
    for event, printed in told(plan):
        assert json.loads(json.dumps(events.to_json(event))) == printed
    kinds = {type(event) for event, _ in told(plan)}
    assert kinds == set(get_args(events.Event)) == set(events.NAMES)


def test_no_event_has_a_key_that_every_line_has_anyway() -> None:
    """A line begins with the event, and is given its target and time."""
    for kind in events.NAMES:
        assert is_dataclass(kind)
        assert not {field.name for field in fields(kind)} & {"event", "target", "at"}
