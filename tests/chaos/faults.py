"""Faults that a chaos run injects."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable

from psycopg import sql

from ktrdr.schemas import Operation
from tests.chaos.fleet import LEASE_S, Fleet, FleetWorker, kill_children
from tests.chaos.proxy import FaultyProxy
from tests.integration.mounts import fill, free_space

# Function that injects a fault and returns the operations that it hit.
Fault = Callable[[Fleet, random.Random], list[Operation]]


def _choose_worker(fleet: Fleet, rng: random.Random) -> FleetWorker:
    """Choose a busy worker if there is one, because breaking an idle one proves little."""
    busy = {operation.worker_id for operation in fleet.all_running()}
    candidates = [worker for worker in fleet.workers if worker.worker_id in busy]
    return rng.choice(candidates or fleet.workers)


def kill_worker(fleet: Fleet, rng: random.Random) -> list[Operation]:
    """Kill a worker and start it again."""
    worker = _choose_worker(fleet, rng)
    hit = fleet.running_on(worker)
    fleet.save_counts(worker)
    fleet.killed += 1
    worker.process.signal(signal.SIGKILL)
    fleet.restart(worker)
    return hit


def kill_child(fleet: Fleet, rng: random.Random) -> list[Operation]:
    """Kill the child process of a worker."""
    worker = _choose_worker(fleet, rng)
    hit = fleet.running_on(worker)
    return hit if kill_children(worker.process.popen.pid) else []


def stop_worker(fleet: Fleet, rng: random.Random) -> list[Operation]:
    """Stop a worker as a deploy does, and start it again."""
    worker = _choose_worker(fleet, rng)
    hit = fleet.running_on(worker)
    _stop_worker(fleet, worker)
    fleet.restart(worker)
    return hit


def redeploy_node(fleet: Fleet, rng: random.Random) -> list[Operation]:
    """Replace all workers of a node by another version, as a deploy does."""
    node = _choose_worker(fleet, rng).node
    workers = [worker for worker in fleet.workers if worker.node == node]
    hit = [operation for worker in workers for operation in fleet.running_on(worker)]
    for worker in workers:
        _stop_worker(fleet, worker)
    for worker in workers:
        worker.version = f"sha-{int(worker.version.removeprefix('sha-')) + 1:07}"
        fleet.restart(worker)
    return hit


def _stop_worker(fleet: Fleet, worker: FleetWorker) -> None:
    fleet.save_counts(worker)
    # It may still count an operation after its counters were read.
    fleet.killed += 1
    worker.process.stop(30)


def freeze_worker(fleet: Fleet, rng: random.Random) -> list[Operation]:
    """Freeze a worker for longer than its lease, then let it continue."""
    worker = _choose_worker(fleet, rng)
    hit = fleet.running_on(worker)
    worker.process.signal(signal.SIGSTOP)
    time.sleep(2 * LEASE_S)
    worker.process.signal(signal.SIGCONT)
    return hit


def kill_backend(fleet: Fleet, _rng: random.Random) -> list[Operation]:
    """Kill the backend and start it again."""
    hit = fleet.all_running()
    fleet.backend.signal(signal.SIGKILL)
    fleet.backend.popen.wait(10)
    fleet.start_backend()
    return hit


def restart_database(fleet: Fleet, _rng: random.Random) -> list[Operation]:
    """Restart the database server without warning, as after a power cut."""
    hit = fleet.all_running()
    fleet.server.control("restart", "-m", "immediate")
    return hit


def cut_connections(fleet: Fleet, _rng: random.Random) -> list[Operation]:
    """Break every connection to the database."""
    hit = fleet.all_running()
    fleet.server.execute(
        sql.SQL(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = {}"
        ).format(sql.Literal(fleet.runtime.settings.db_name))
    )
    return hit


def disconnect_from_database(fleet: Fleet, rng: random.Random) -> list[Operation]:
    """Disconnect a worker from the database, for shorter or longer than its lease."""
    worker = _choose_worker(fleet, rng)
    hit = fleet.running_on(worker)
    _interrupt([worker.to_database], rng)
    return hit


def disconnect_from_backend(fleet: Fleet, rng: random.Random) -> list[Operation]:
    """Disconnect a worker and the backend from each other."""
    worker = _choose_worker(fleet, rng)
    hit = fleet.running_on(worker)
    _interrupt([worker.to_backend, worker.from_backend], rng)
    return hit


def _interrupt(proxies: list[FaultyProxy], rng: random.Random) -> None:
    breaks = rng.random() < 0.5
    for proxy in proxies:
        if breaks:
            proxy.cut()
        else:
            proxy.stall()
    time.sleep(rng.uniform(0.5, 2) * LEASE_S)
    for proxy in proxies:
        proxy.restore()


def fill_shared(fleet: Fleet, rng: random.Random) -> list[Operation]:
    """Fill the shared directory for a while."""
    hit = fleet.all_running()
    fill(fleet.runtime.shared)
    time.sleep(rng.uniform(0.5, 3))
    free_space(fleet.runtime.shared)
    return hit


FAULTS: dict[str, Fault] = {
    "kill -9 a worker": kill_worker,
    "kill -9 the child process": kill_child,
    "SIGTERM a worker": stop_worker,
    "redeploy a node": redeploy_node,
    "freeze a worker past its lease": freeze_worker,
    "kill -9 the backend": kill_backend,
    "restart the database": restart_database,
    "cut all database connections": cut_connections,
    "disconnect a worker from the database": disconnect_from_database,
    "disconnect a worker from the backend": disconnect_from_backend,
    "fill the shared directory": fill_shared,
}
