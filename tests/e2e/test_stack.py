"""Tests of the deployed stack: operations, metrics, traces, files, permissions."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from lab import demo
from lab.config import STATE
from tests.e2e.conftest import Lab

BACKTEST = ["-p", "symbol=SP500", "-p", "folds=8"]
TRAINING = ["-p", "symbol=SP500", "-p", "epochs=5"]
# Sum of the resident memory of a container's processes. Shared pages count for each, so the sum is
# too high rather than too low.
RESIDENT = """
import glob, json, re
total = 0
for path in glob.glob('/proc/[0-9]*/status'):
    try:
        total += int((re.search(r'VmRSS:\\s+(\\d+)', open(path).read()) or [0, 0])[1])
    except OSError:
        pass
print(json.dumps(total / 1024))
"""


def request(
    lab: Lab, method: str, path: str, body: Any = None, token: str | None = None
) -> tuple[int, Any]:
    """Send a request to the API's published port; return status and body."""
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = json.dumps(body).encode() if body is not None else None
    asked = urllib.request.Request(
        lab.env["KTRDR_API_URL"] + path, data=data, headers=headers, method=method
    )
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as exc:
        return exc.code, json.load(exc)


@pytest.fixture(scope="module")
def work(
    bare_lab: Lab, deployment: object, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Run a backtest and a training on twenty years of the S&P 500."""
    lab = bare_lab
    lab.good("data", "import", str(STATE / "data/SP500.csv"), "--symbol", "SP500")
    done = {}
    for kind, parameters in (("backtest", BACKTEST), ("training", TRAINING)):
        submitted = lab.good("operations", "submit", kind, *parameters, "--wait", "--json").json
        done[kind] = submitted
        place = tmp_path_factory.mktemp(kind)
        results = ("operations", "results", submitted["operation_id"])
        lab.good(*results, "--save", str(place))
        done[f"{kind} summary"] = lab.good(*results, "--json").json["summary"]
        done[f"{kind} files"] = place / submitted["operation_id"].removeprefix("op_")
    return done


def test_all_workers_are_registered_under_their_public_urls(lab: Lab) -> None:
    found = lab.good("workers", "list", "--json").json
    assert {each["endpoint_url"] for each in found} == {
        f"http://workers-{node}.ktrdr.home.mynerd.place:{port}"
        for node in "bc"
        for port in (5003, 5005)
    }
    assert {each["version"] for each in found} == {lab.tag}
    assert {each["status"] for each in found} == {"available"}


def test_a_backtest_and_a_training_complete_with_results_and_a_report(work: dict[str, Any]) -> None:
    for kind in ("backtest", "training"):
        assert work[kind]["status"] == "completed"
        report = (work[f"{kind} files"] / "report.html").read_text()
        assert "<svg" in report
        assert "http://" not in report.replace("http://www.w3.org/2000/svg", "")
    assert work["backtest summary"]["trades"] > 0
    assert 0 < work["training summary"]["test_accuracy"] < 1


def test_results_are_in_the_shared_directory_of_the_core_host(
    lab: Lab, work: dict[str, Any]
) -> None:
    name = Path(work["backtest files"]).name
    listed = lab.on("core", "find", "/srv/ktrdr-shared/results", "-name", "report.html")
    assert name in listed


def test_prometheus_scrapes_backend_and_all_workers(lab: Lab, work: dict[str, Any]) -> None:
    url = lab.env["KTRDR_LAB_PROMETHEUS_URL"]
    said = demo.wait_for("targets", lambda: demo.targets_up(url), 60)
    assert "ktrdr-backend, ktrdr-workers-b, ktrdr-workers-c" in said
    query = f"{url}/api/v1/query?query=sum(ktrdr_operations_finished_total)"
    demo.wait_for(
        "the count of finished operations",
        lambda: "seen" if demo.get_json(query)["data"]["result"] else None,
        60,
    )


def test_every_alert_rule_can_be_evaluated(lab: Lab, work: dict[str, Any]) -> None:
    url = lab.env["KTRDR_LAB_PROMETHEUS_URL"]
    rules = demo.get_json(f"{url}/api/v1/rules")["data"]["groups"]
    assert rules
    assert all(rule["health"] in ("ok", "unknown") for group in rules for rule in group["rules"])


def test_a_trace_contains_spans_of_backend_and_worker(lab: Lab, work: dict[str, Any]) -> None:
    shown = lab.good("operations", "show", work["backtest"]["operation_id"], "--json").json
    url = lab.env["KTRDR_LAB_JAEGER_URL"]
    said = demo.wait_for("the trace", lambda: demo.trace_spans(url, shown["trace_id"]), 30)
    assert "ktrdr-backend and ktrdr-backtest-worker" in said


def test_grafana_accepts_the_vaults_password_and_has_the_dashboards(lab: Lab) -> None:
    import base64

    login = base64.b64encode(f"admin:{lab.fields['grafana_password']}".encode()).decode()
    asked = urllib.request.Request(
        f"{lab.env['KTRDR_LAB_GRAFANA_URL']}/api/search",
        headers={"Authorization": f"Basic {login}"},
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        titles = {board["title"] for board in json.load(answer)}
    assert len(titles) == 2


def test_memory_use_stays_below_the_documented_values(lab: Lab, work: dict[str, Any]) -> None:
    assert lab.inside("core", "backend", RESIDENT) < 200
    for node in "BC":
        for service in ("backtest-worker-1", "training-worker-1"):
            assert lab.inside(node, service, RESIDENT) < 150, (node, service)


def test_without_a_valid_token_every_request_is_refused(lab: Lab) -> None:
    registration = {
        "worker_id": "intruder",
        "worker_type": "backtesting",
        "endpoint_url": "http://workers-b.ktrdr.home.mynerd.place:6000",
        "capabilities": {},
        "version": "x",
    }
    operation = {"type": "backtest", "parameters": {"symbol": "SP500"}}
    for token in (None, "not.a.token"):
        assert request(lab, "POST", "/api/v1/workers/register", registration, token)[0] == 401
        assert request(lab, "POST", "/api/v1/operations", operation, token)[0] == 401
        assert request(lab, "GET", "/api/v1/operations", token=token)[0] == 401
        assert request(lab, "GET", "/api/v1/workers", token=token)[0] == 401
        assert request(lab, "DELETE", "/api/v1/operations/op_x", token=token)[0] == 401


def test_a_workers_token_permits_no_operations_and_no_registration_of_other_hosts(lab: Lab) -> None:
    token = lab.environment_of("B", "backtest-worker-1")[b"WORKER_TOKEN"].decode()
    operation = {"type": "backtest", "parameters": {"symbol": "SP500"}}
    assert request(lab, "POST", "/api/v1/operations", operation, token)[0] == 403
    assert request(lab, "DELETE", "/api/v1/operations/op_x", token=token)[0] == 403
    registration = {
        "worker_id": "intruder",
        "worker_type": "backtesting",
        "endpoint_url": "http://workers-c.ktrdr.home.mynerd.place:5003",
        "capabilities": {},
        "version": "x",
    }
    status, problem = request(lab, "POST", "/api/v1/workers/register", registration, token)
    assert status == 403
    assert "workers-c.ktrdr.home.mynerd.place" in problem["detail"]


def test_containers_run_without_privileges(lab: Lab) -> None:
    for key in ("core", "B", "C"):
        for service, each in lab.inspect(key).items():
            host = each["HostConfig"]
            assert host["ReadonlyRootfs"], service
            assert host["CapDrop"] == ["ALL"], service
            assert "no-new-privileges:true" in host["SecurityOpt"], service
            assert host["RestartPolicy"]["Name"] == "unless-stopped", service
            assert each["Config"]["User"] not in ("", "root", "0"), service
    limits = {
        service: (each["HostConfig"]["NanoCpus"] / 1e9, each["HostConfig"]["Memory"] / 2**30)
        for service, each in lab.inspect("B").items()
    }
    assert limits == {"backtest-worker-1": (1.0, 3.0), "training-worker-1": (2.0, 5.0)}


def test_data_survives_taking_the_stack_down_and_deploying_again(
    lab: Lab, work: dict[str, Any]
) -> None:
    lab.on("core", "docker", "compose", "-p", "ktrdr-core", "down")
    assert lab.inspect("core") == {}
    lab.good("deploy", "core", "all")
    shown = lab.good("operations", "show", work["backtest"]["operation_id"], "--json").json
    assert shown["status"] == "completed"
    wait = ("workers that have registered again", lambda: _workers(lab), 60)
    demo.wait_for(*wait)


def _workers(lab: Lab) -> str | None:
    found = lab.good("workers", "list", "--json").json
    return "all" if len([w for w in found if w["status"] == "available"]) == 4 else None
