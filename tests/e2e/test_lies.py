"""Services that cannot work while their containers run: the gate and the status say why."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.e2e.conftest import Lab

SHARED = "/mnt/ktrdr-shared"
PSQL = ("docker", "exec", "ktrdr-core-db-1", "sh", "-c")
QUERY = 'psql -X -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "{}"'
KEEP_RUNNING = {
    "KTRDR_INVENTORY_WORKERS_B_ENVIRONMENT": json.dumps({"SHARED_RESTART_S": "0"}),
}
# Docker's health checks run every 5 s.
SEEN_WITHIN_S = 15


@dataclass(frozen=True)
class Lie:
    """Way to make a service unable to work.

    Attributes:
        tell: Makes it so.
        undo: Ends it.
        sentence: Part of the reason.
        target: Host whose status shows it.
    """

    tell: Callable[[Lab], object]
    undo: Callable[[Lab], object]
    sentence: str
    target: str = "B"


def sql(statement: str) -> Callable[[Lab], object]:
    return lambda lab: lab.on("core", *PSQL, QUERY.format(statement))


def on(host: str, *command: str) -> Callable[[Lab], object]:
    return lambda lab: lab.on(host, *command)


LIES = {
    "the share is covered": Lie(
        on("B", "mount", "-t", "tmpfs", "none", SHARED),
        on("B", "umount", SHARED),
        ".ktrdr-share is missing",
    ),
    "the database is read-only": Lie(
        sql("ALTER SYSTEM SET default_transaction_read_only = on; SELECT pg_reload_conf()"),
        sql(
            "SET default_transaction_read_only = off;"
            " ALTER SYSTEM RESET default_transaction_read_only; SELECT pg_reload_conf()"
        ),
        "the database is read-only",
        "core",
    ),
    "the queue's table is gone": Lie(
        sql("ALTER TABLE procrastinate_jobs RENAME TO hidden"),
        sql("ALTER TABLE hidden RENAME TO procrastinate_jobs"),
        "lacks the tables procrastinate_jobs",
    ),
    "the backend is stopped": Lie(
        on("core", "docker", "kill", "--signal=STOP", "ktrdr-core-backend-1"),
        on("core", "docker", "kill", "--signal=CONT", "ktrdr-core-backend-1"),
        "fails its health check",
        "core",
    ),
}


@contextmanager
def told(lab: Lab, lie: Lie) -> Iterator[None]:
    lie.tell(lab)
    try:
        yield
    finally:
        lie.undo(lab)


@pytest.mark.parametrize("name", LIES)
def test_status_and_a_deploy_that_changes_nothing_say_why_a_service_cannot_work(
    lab: Lab, name: str
) -> None:
    lie = LIES[name]
    lab.good("deploy", "core", "all")
    lab.good("deploy", "workers", "B", env=KEEP_RUNNING)
    arguments = ("core", "all") if lie.target == "core" else ("workers", lie.target)
    with told(lab, lie):
        deadline = time.monotonic() + SEEN_WITHIN_S
        status = lab.ktrdr("deploy", "status", lie.target)
        while lie.sentence not in " ".join(status.text.split()) and time.monotonic() < deadline:
            status = lab.ktrdr("deploy", "status", lie.target)
        assert lie.sentence in " ".join(status.text.split())
        assert status.code == 8, status.text
        began = time.monotonic()
        again = lab.ktrdr("deploy", *arguments, "--health-timeout", "10", env=KEEP_RUNNING)
        assert again.code == 8, again.text
        assert lie.sentence in " ".join(again.text.split())
        if "health check" not in lie.sentence:
            assert time.monotonic() - began > 10, "it waits as long as it was told to"
    lab.good("deploy", *arguments, env=KEEP_RUNNING)


def test_a_lost_database_volume_needs_a_yes_and_then_everything_goes_on(lab: Lab) -> None:
    lab.good("deploy", "core", "all")
    lab.on("core", "docker", "rm", "--force", "ktrdr-core-db-1")
    lab.on("core", "docker", "volume", "rm", "ktrdr-core_postgres_data")
    refused = lab.ktrdr("deploy", "core", "all")
    assert refused.code == 2, refused.text
    assert "the database of earlier releases is gone with its volume" in " ".join(
        refused.err.split()
    )
    lab.good("deploy", "core", "all", "--yes")
    assert lab.ktrdr("operations", "list").code == 0
    lab.good("deploy", "workers", "B")
    assert all(
        each["state"] == "available"
        for each in lab.good("workers", "list", "--json").json
        if "workers-b" in each["endpoint_url"]
    )
