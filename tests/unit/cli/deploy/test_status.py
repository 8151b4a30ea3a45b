"""What `ktrdr deploy status` says and ends with."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from ktrdr.cli.deploy import status as command
from ktrdr.cli.deploy.status import exit_code
from ktrdr.cli.host_tables import host_pairs, host_to_json
from ktrdr.cli.render import console
from ktrdr.deployment.hosts.health import HealthProblem
from ktrdr.deployment.hosts.lock import Owner
from ktrdr.deployment.status.query import Disk, Surveyed
from ktrdr.errors import HostNotReady, HostUnreachable
from tests.unit.deployment.day import CORE, NOW, B, container, entry

WELL = Surveyed(
    CORE,
    now=NOW,
    containers=(container("backend"), container("db", "timescale/timescaledb:2.29.2-pg17")),
    digests={"sha256:backend": "sha256:1234567890abcdef"},
    history=(entry(),),
    owner=Owner("x", "ada@laptop", "deploy of sha-abc1234", NOW),
    disks=(Disk("/var/lib/docker", 8 * 1024**2, 2 * 1024**2),),
)
UNWELL = Surveyed(B, now=NOW, troubles=(HealthProblem("backtest-worker-1", "has ended"),))
DRIFTED = Surveyed(B, now=NOW, drift=("a differs from the release",))
AWAY = Surveyed(B, error=HostUnreachable("away"))
DOWN = Surveyed(B, error=HostNotReady("no Docker"))
RESTARTED = Surveyed(B, now=NOW, delivery={"worker": False})


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        ([WELL], 0),
        ([WELL, DRIFTED], 9),
        ([DRIFTED, UNWELL], 8),
        ([RESTARTED], 8),
        ([DOWN, UNWELL], 6),
        ([DOWN, AWAY, UNWELL], 5),
    ],
)
def test_the_exit_code_is_that_of_the_worst(seen, code) -> None:
    assert exit_code(seen) == code


def test_what_a_host_is_worth_saying_of() -> None:
    assert host_pairs(WELL) == [
        ("last", "sha-abc1234 deployed 2 h 00 min ago by ada@laptop (deploy r1)"),
        ("locked", "by ada@laptop, since 2026-11-24 06:00:00 UTC: deploy of sha-abc1234"),
        ("disk", "2.0 of 8.0 GiB free at /var/lib/docker"),
    ]
    assert ("unwell", "backtest-worker-1 has ended") in host_pairs(UNWELL)
    assert ("drift", "a differs from the release") in host_pairs(DRIFTED)
    assert ("secrets", "this host was restarted: run `ktrdr deploy workers B`") in host_pairs(
        RESTARTED
    )


def test_the_keys_of_a_host_are_a_contract() -> None:
    expected = {
        "target", "host", "error", "clock", "services", "unwell", "drift", "lacks_secrets", "lock",
        "last", "disks",
    }  # fmt: skip
    for host in (WELL, AWAY):
        assert host_to_json(host).keys() == expected
    assert host_to_json(WELL)["services"][0]["digest"] == "sha256:1234567890abcdef"
    assert host_to_json(AWAY)["error"]["kind"] == "unreachable"


@pytest.mark.parametrize("colour", [True, False])
def test_it_fits_into_eighty_columns(monkeypatch, colour: bool) -> None:
    monkeypatch.setattr(command, "survey", lambda hosts, transport: [WELL, UNWELL, AWAY])
    monkeypatch.setenv("COLUMNS", "80")
    if not colour:
        monkeypatch.setenv("NO_COLOR", "1")
    console.cache_clear()
    try:
        ran = CliRunner().invoke(command.status, [])
    finally:
        console.cache_clear()
    assert ran.exit_code == 5
    assert all(len(line.rstrip()) <= 80 for line in ran.stdout.splitlines()), ran.stdout
    assert "cannot be looked at: away" in ran.stderr
    assert "\x1b" not in ran.stdout
