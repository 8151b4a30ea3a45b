"""Tests of deploys that fail after a change, and of interrupted deploys."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.config import DOMAIN, ROOT
from tests.e2e.conftest import Lab
from tests.e2e.images import SLEEPS, push_broken
from tests.e2e.leaks import leaks_in

TAKE_PORT = """docker stop "$1" >/dev/null
systemd-socket-activate --listen=0.0.0.0:5003 true 2>/dev/null &
until ss -ltn | grep -q 0.0.0.0:5003; do sleep 0.05; done
docker start "$1" 2>/dev/null && exit 1
kill $!"""


@pytest.fixture
def healed(lab: Lab) -> Iterator[Lab]:
    """Provide the lab, and repair it afterwards with a deploy."""
    yield lab
    for arguments in (["core", "all"], ["workers", "B"]):
        lab.good("deploy", *arguments)


def test_a_crashing_backend_is_reported_with_its_scrubbed_last_log_lines(
    healed: Lab, tmp_path: Path
) -> None:
    push_broken(
        "crashes", "#!/bin/sh\nenv\necho 'this backend cannot live' >&2\nexit 4\n", tmp_path
    )
    ran = healed.ktrdr("deploy", "core", "all", "--tag", "crashes", "-vv")
    assert ran.code == 8, ran.text
    assert "backend keeps restarting" in ran.err
    assert "this backend cannot live" in ran.err, ran.err[-6000:]
    assert "DB_PASSWORD=•••" in ran.err
    hidden = {name: value for name, value in healed.fields.items() if name != "db_username"}
    assert leaks_in(ran.text, hidden) == []


def test_a_backend_that_never_becomes_healthy_fails_within_the_timeout(
    healed: Lab, tmp_path: Path
) -> None:
    push_broken("sleeps", SLEEPS, tmp_path)
    began = time.monotonic()
    ran = healed.ktrdr(
        "deploy", "core", "backend", "--tag", "sleeps", "--health-timeout", "5", "--json"
    )
    assert time.monotonic() - began < 60
    assert ran.code == 8, ran.text
    message = ran.on_host["error"]["message"]
    assert "did not become healthy within 5 s: backend is starting" in message
    assert ran.result["ok"] is False
    assert "this backend sleeps" in ran.err


def test_a_worker_that_cannot_register_is_reported_with_the_reason(healed: Lab) -> None:
    wrong = f"api_url=http://backend.{DOMAIN}:9999"
    ran = healed.ktrdr(
        *("deploy", "workers", "B", "--set", wrong, "--health-timeout", "25"),
        "--skip-validation",
    )
    assert ran.code == 8, ran.text
    assert "backtest-worker-1 could not register:" in ran.err
    assert ":9999" in ran.err


def signalled(lab: Lab, *command: str, after: str, by: signal.Signals) -> tuple[int, str]:
    """Start a command and signal it after a step; return exit code and output."""
    with lab.start(*command) as process:
        assert process.stdout
        output = b""
        for line in process.stdout:
            output += line
            if f"✓ {after}".encode() in line:
                break
        # In the middle of the step.
        time.sleep(0.15)
        process.send_signal(by)
        output += process.stdout.read()
        return process.wait(60), output.decode()


def test_a_container_that_docker_could_not_start_is_recreated(healed: Lab) -> None:
    service = "backtest-worker-1"
    # Another program uses its port for a moment.
    healed.on("B", "sh", "-c", TAKE_PORT, "-", f"ktrdr-workers-{service}-1")
    failed = healed.inspect("B")[service]
    assert failed["State"]["Status"] == "exited"
    assert "address already in use" in failed["State"]["Error"]
    assert f"{service}: to be recreated" in healed.good("deploy", "workers", "B").text
    assert healed.inspect("B")[service]["Id"] != failed["Id"]


# The signal arrives while images are fetched, while containers are replaced, and while the deploy
# waits for health.
@pytest.mark.parametrize("step", ["check the host", "fetch the release", "apply", "wait until"])
def test_an_interrupted_deploy_leaves_a_working_host_and_the_next_one_converges(
    healed: Lab, moving_tag: str, step: str
) -> None:
    before = ["read the secrets", "check the host", "fetch the release", "apply", "wait until"]
    last_done = before[before.index(step) - 1]
    code, output = signalled(
        healed, "deploy", "core", "all", "--tag", moving_tag, after=last_done, by=signal.SIGINT
    )
    assert code == 130, output
    assert "Traceback" not in output
    assert "error: " in output
    assert (
        ".ktrdr-staging" not in healed.on("core", "ls", "-a", "/opt/ktrdr-core") or step == "apply"
    )
    states = {name: each["State"]["Status"] for name, each in healed.inspect("core").items()}
    assert set(states) == {"db", "backend", "prometheus", "grafana", "jaeger"}
    converged = healed.good("deploy", "core", "all", "--tag", moving_tag, "--json").on_host
    assert {each["health"] for each in converged["services"]} == {"healthy"}
    assert ".ktrdr-staging" not in healed.on("core", "ls", "-a", "/opt/ktrdr-core")


def test_sigterm_interrupts_a_deploy_like_ctrl_c(healed: Lab, moving_tag: str) -> None:
    deploy = ("deploy", "core", "backend", "--tag", moving_tag)
    code, output = signalled(healed, *deploy, after="check the host", by=signal.SIGTERM)
    assert code == 130, output
    assert healed.on("core", "pgrep", "-fc", "ktrdr-staging", check=False).strip() == "0"


def test_no_process_of_the_operator_is_left_running(lab: Lab) -> None:
    listed = subprocess.run(
        ["ps", "-eo", "args"], capture_output=True, text=True, check=True
    ).stdout
    clients = [line for line in listed.splitlines() if "ssh" in line and "ControlMaster=" in line]
    assert [line for line in clients if str(ROOT) in line] == []
