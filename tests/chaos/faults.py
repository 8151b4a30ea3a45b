"""The faults, each with what it hits."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable

from psycopg import sql

from ktrdr.schemas import Operation
from tests.chaos.fleet import LEASE_S, Fleet, Member, kill_children
from tests.chaos.link import Link
from tests.integration.mounts import fill, make_room

# Injects one fault and gives the operations that it hit.
Fault = Callable[[Fleet, random.Random], list[Operation]]


def _member(fleet: Fleet, dice: random.Random) -> Member:
    """A worker that works, if there is one: to break an idle one proves little."""
    busy = {operation.worker_id for operation in fleet.all_running()}
    working = [member for member in fleet.members if member.worker_id in busy]
    return dice.choice(working or fleet.members)


def kill_worker(fleet: Fleet, dice: random.Random) -> list[Operation]:
    """A worker is killed, and started again."""
    member = _member(fleet, dice)
    hit = fleet.running_on(member)
    fleet.remember(member)
    fleet.killed += 1
    member.process.signal(signal.SIGKILL)
    fleet.revive(member)
    return hit


def kill_child(fleet: Fleet, dice: random.Random) -> list[Operation]:
    """The process that does the work is killed; its worker is not."""
    member = _member(fleet, dice)
    hit = fleet.running_on(member)
    return hit if kill_children(member.process.popen.pid) else []


def stop_worker(fleet: Fleet, dice: random.Random) -> list[Operation]:
    """A worker is told to stop, as a deploy does, and started again."""
    member = _member(fleet, dice)
    hit = fleet.running_on(member)
    _stop(fleet, member)
    fleet.revive(member)
    return hit


def redeploy_node(fleet: Fleet, dice: random.Random) -> list[Operation]:
    """All workers of a node are replaced by those of another version, as a deploy does."""
    node = _member(fleet, dice).node
    members = [member for member in fleet.members if member.node == node]
    hit = [operation for member in members for operation in fleet.running_on(member)]
    for member in members:
        _stop(fleet, member)
    for member in members:
        member.version = f"sha-{int(member.version.removeprefix('sha-')) + 1:07}"
        fleet.revive(member)
    return hit


def _stop(fleet: Fleet, member: Member) -> None:
    fleet.remember(member)
    # CommitRange the last look at its counters and its end it may count what it finishes then.
    fleet.killed += 1
    member.process.stop(30)


def freeze_worker(fleet: Fleet, dice: random.Random) -> list[Operation]:
    """A worker stands still for longer than its lease lasts, and then goes on."""
    member = _member(fleet, dice)
    hit = fleet.running_on(member)
    member.process.signal(signal.SIGSTOP)
    time.sleep(2 * LEASE_S)
    member.process.signal(signal.SIGCONT)
    return hit


def kill_backend(fleet: Fleet, _dice: random.Random) -> list[Operation]:
    """The backend is killed, and started again."""
    hit = fleet.all_running()
    fleet.backend.signal(signal.SIGKILL)
    fleet.backend.popen.wait(10)
    fleet.start_backend()
    return hit


def restart_database(fleet: Fleet, _dice: random.Random) -> list[Operation]:
    """The database server is restarted without warning, as by a power cut."""
    hit = fleet.all_running()
    fleet.server.control("restart", "-m", "immediate")
    return hit


def cut_connections(fleet: Fleet, _dice: random.Random) -> list[Operation]:
    """Every connection to the database breaks."""
    hit = fleet.all_running()
    fleet.server.execute(
        sql.SQL(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = {}"
        ).format(sql.Literal(fleet.site.settings.db_name))
    )
    return hit


def part_from_database(fleet: Fleet, dice: random.Random) -> list[Operation]:
    """A worker cannot reach the database, for longer or shorter than its lease lasts."""
    member = _member(fleet, dice)
    hit = fleet.running_on(member)
    _pull([member.to_database], dice)
    return hit


def part_from_backend(fleet: Fleet, dice: random.Random) -> list[Operation]:
    """A worker and the backend cannot reach each other."""
    member = _member(fleet, dice)
    hit = fleet.running_on(member)
    _pull([member.to_backend, member.from_backend], dice)
    return hit


def _pull(links: list[Link], dice: random.Random) -> None:
    loud = dice.random() < 0.5
    for link in links:
        if loud:
            link.cut()
        else:
            link.hush()
    time.sleep(dice.uniform(0.5, 2) * LEASE_S)
    for link in links:
        link.mend()


def fill_shared(fleet: Fleet, dice: random.Random) -> list[Operation]:
    """The shared directory has no room for a while."""
    hit = fleet.all_running()
    fill(fleet.site.shared)
    time.sleep(dice.uniform(0.5, 3))
    make_room(fleet.site.shared)
    return hit


FAULTS: dict[str, Fault] = {
    "kill -9 a worker": kill_worker,
    "kill -9 the working process": kill_child,
    "SIGTERM a worker": stop_worker,
    "redeploy a node": redeploy_node,
    "freeze a worker past its lease": freeze_worker,
    "kill -9 the backend": kill_backend,
    "restart the database": restart_database,
    "cut all database connections": cut_connections,
    "part a worker from the database": part_from_database,
    "part a worker from the backend": part_from_backend,
    "fill the shared directory": fill_shared,
}
