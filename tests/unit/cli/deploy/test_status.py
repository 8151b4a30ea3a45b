"""Output and exit codes of `ktrdr deploy status`."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from ktrdr.cli.deploy import status
from ktrdr.cli.host_tables import describe_host, host_to_json
from ktrdr.cli.render import console
from ktrdr.deployment.hosts.health import HealthProblem
from ktrdr.deployment.hosts.host import DeployId
from ktrdr.deployment.hosts.lock import LockOwner
from ktrdr.deployment.status import Disk, HostStatus
from ktrdr.errors import HostNotReady, HostUnreachable
from tests.unit.deployment.histories import history_entry
from tests.unit.deployment.sample_hosts import CORE, NOW, TAG, B, container

HEALTHY = HostStatus(
    CORE,
    now=NOW,
    containers=(container("backend"), container("db", "timescale/timescaledb:2.29.2-pg17")),
    digests={"sha256:backend": ("sha256:1234567890abcdef",)},
    history=(history_entry(1, TAG),),
    lock_owner=LockOwner(DeployId("x", "ada@laptop", NOW), "deploy of sha-abc1234"),
    disks=(Disk("/var/lib/docker", 8 * 1024**2, 2 * 1024**2),),
)
EXITED = HealthProblem("backtest-worker-1", "exited with code 1")
UNHEALTHY = HostStatus(B, now=NOW, problems=(EXITED,))
DRIFTED = HostStatus(B, now=NOW, drift=("a differs from the release",))
UNREACHABLE = HostStatus(B, error=HostUnreachable("away"))
CUT_OFF = HostStatus(B, now=NOW, is_unfinished=True)
WITHOUT_DOCKER = HostStatus(B, error=HostNotReady("no Docker"))
REBOOTED = HostStatus(B, now=NOW, delivered_secrets={"worker": False})


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([HEALTHY], 0),
        ([HEALTHY, DRIFTED], 9),
        ([DRIFTED, UNHEALTHY], 8),
        ([REBOOTED], 8),
        ([HEALTHY, CUT_OFF], 9),
        ([WITHOUT_DOCKER, UNHEALTHY], 6),
        ([WITHOUT_DOCKER, UNREACHABLE, UNHEALTHY], 5),
    ],
)
def test_the_exit_code_is_that_of_the_worst_status(statuses, code) -> None:
    assert status.exit_code(statuses) == code


def test_the_last_deploy_lock_disks_problems_and_drift_of_a_host_are_shown() -> None:
    assert describe_host(HEALTHY) == [
        ("last deploy", "sha-abc1234 deployed 2 h 00 min ago by ada@laptop (r1)"),
        ("locked", "by ada@laptop, since 2026-11-24 06:00:00 UTC: deploy of sha-abc1234"),
        ("disk", "2.0 of 8.0 GiB free at /var/lib/docker"),
    ]
    assert ("unhealthy", "backtest-worker-1 exited with code 1") in describe_host(UNHEALTHY)
    assert ("drift", "a differs from the release") in describe_host(DRIFTED)
    assert ("secrets", "this host was restarted: run `ktrdr deploy workers B`") in describe_host(
        REBOOTED
    )


def test_the_json_keys_of_a_host_are_frozen() -> None:
    expected = {
        "target", "host", "error", "clock", "services", "unwell", "drift", "lacks_secrets", "lock",
        "last", "disks", "unfinished", "next_steps",
    }  # fmt: skip
    for host in (HEALTHY, UNREACHABLE):
        assert host_to_json(host).keys() == expected
    assert host_to_json(HEALTHY)["services"][0]["digest"] == "sha256:1234567890abcdef"
    assert host_to_json(UNREACHABLE)["error"]["kind"] == "unreachable"
    assert host_to_json(CUT_OFF)["unfinished"] == ["a deploy"]
    (step,) = host_to_json(CUT_OFF)["next_steps"]
    assert step["state"] == "unfinished"


@pytest.mark.parametrize("colour", [True, False])
def test_the_output_fits_into_eighty_columns(monkeypatch, colour: bool) -> None:
    statuses = [HEALTHY, UNHEALTHY, UNREACHABLE]
    monkeypatch.setattr(status, "collect_status", lambda hosts, transport: statuses)
    monkeypatch.setenv("COLUMNS", "80")
    if not colour:
        monkeypatch.setenv("NO_COLOR", "1")
    console.cache_clear()
    try:
        result = CliRunner().invoke(status.status, [])
    finally:
        console.cache_clear()
    assert result.exit_code == 5
    assert all(len(line.rstrip()) <= 80 for line in result.stdout.splitlines()), result.stdout
    assert "cannot be queried: away" in result.stderr
    assert "\x1b" not in result.stdout
