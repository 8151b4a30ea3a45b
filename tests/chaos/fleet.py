"""Fleet that faults are injected into: one backend, and two nodes with two workers each."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import httpx

from ktrdr.client.backend import BackendClient
from ktrdr.schemas import Operation, WorkerHealth
from tests.chaos.proxy import FaultyProxy
from tests.integration.postgres import PostgresServer
from tests.integration.processes import Runtime, ServerProcess, child_pids, wait_for
from tests.integration.sshd import free_port

LEASE_S = 3
NODES = (("backtest", "training"), ("backtest", "training"))
FIRST_VERSION = "sha-0000001"
_COUNTED = re.compile(
    r'^ktrdr_operations_finished_total\{operation_type="(\w+)",status="(\w+)"\} ([\d.]+)$', re.M
)


@dataclass
class FleetWorker:
    """Worker that keeps its id and ports over restarts.

    Attributes:
        to_backend: Proxy from the worker to the backend.
        to_database: Proxy from the worker to the database.
        from_backend: Proxy from the backend to the worker.
        saved_counts: Ended operations that its earlier processes counted, by type and status.
    """

    kind: str
    node: int
    port: int
    to_backend: FaultyProxy
    to_database: FaultyProxy
    from_backend: FaultyProxy
    version: str = FIRST_VERSION
    process: ServerProcess = field(init=False)
    saved_counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def worker_id(self) -> str:
        """Id under which the backend knows it."""
        prefix = "backtesting" if self.kind == "backtest" else self.kind
        return f"{prefix}-127-{self.from_backend.port}"

    @property
    def proxies(self) -> tuple[FaultyProxy, FaultyProxy, FaultyProxy]:
        """All its proxies."""
        return self.to_backend, self.to_database, self.from_backend

    def read_counts(self) -> Counter[tuple[str, str]]:
        """Return the ended operations that the current process has counted."""
        with suppress(httpx.HTTPError):
            text = httpx.get(f"{self.process.url}/metrics", timeout=2, trust_env=False).text
            return Counter({(t, s): int(float(n)) for t, s, n in _COUNTED.findall(text)})
        return Counter()


@dataclass
class Fleet:
    """Backend, workers and database of a chaos run.

    Attributes:
        server: Database server.
        runtime: Database, shared directory and processes.
        api_port: Port of the backend, which it keeps over restarts.
        killed: Number of workers that were killed before their counters were read a last time.
    """

    server: PostgresServer
    runtime: Runtime
    api_port: int = field(default_factory=free_port)
    backend: ServerProcess = field(init=False)
    client: BackendClient = field(init=False)
    workers: list[FleetWorker] = field(default_factory=list)
    killed: int = 0

    def start(self) -> None:
        """Start the backend and all workers."""
        self.start_backend()
        self.client = self.runtime.client(self.backend)
        for node, kinds in enumerate(NODES):
            for kind in kinds:
                port = free_port()
                worker = FleetWorker(
                    kind,
                    node,
                    port,
                    to_backend=FaultyProxy(self.api_port),
                    to_database=FaultyProxy(self.runtime.settings.db_port),
                    from_backend=FaultyProxy(port),
                )
                worker.process = self._start_worker(worker)
                self.workers.append(worker)

    def close(self) -> None:
        """Close all proxies."""
        for worker in self.workers:
            for proxy in worker.proxies:
                proxy.close()

    def start_backend(self) -> None:
        """Start the backend on its port."""
        self.backend = self.runtime.backend(self.api_port, SWEEP_EVERY_S="1")

    def save_counts(self, worker: FleetWorker) -> None:
        """Save the counts of a worker that is about to end."""
        worker.saved_counts += worker.read_counts()

    def restart(self, worker: FleetWorker) -> None:
        """Start a worker again that has ended."""
        worker.process.popen.wait(40)
        worker.process = self._start_worker(worker)

    def running_on(self, worker: FleetWorker) -> list[Operation]:
        """Return the operations that a worker runs."""
        return [each for each in self.all_running() if each.worker_id == worker.worker_id]

    def all_running(self) -> list[Operation]:
        """Return the running operations, except parents whose children run."""
        page = self.client.list_operations(status="running", limit=500, parts=True)
        parents = {each.parent_id for each in page.operations}
        return [each for each in page.operations if each.operation_id not in parents]

    def all_operations(self) -> list[Operation]:
        """Return all operations, children included."""
        operations: list[Operation] = []
        cursor = None
        while True:
            page = self.client.list_operations(limit=500, cursor=cursor, parts=True)
            operations += page.operations
            cursor = page.next_cursor
            if cursor is None:
                return operations

    def _start_worker(self, worker: FleetWorker) -> ServerProcess:
        return self.runtime.worker(
            worker.kind,
            self.backend,
            port=worker.port,
            LEASE_S=str(LEASE_S),
            IMAGE_TAG=worker.version,
            KTRDR_API_URL=f"http://127.0.0.1:{worker.to_backend.port}",
            WORKER_PUBLIC_BASE_URL=f"http://127.0.0.1:{worker.from_backend.port}",
            DB_PORT=str(worker.to_database.port),
        )


def kill_children(pid: int) -> bool:
    """Kill the child processes of a process; return False if there are none."""
    children = child_pids(pid)
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    return bool(children)


def wait_until_ready(fleet: Fleet) -> None:
    """Wait until the backend serves requests and all workers are registered."""
    wait_for("the backend", lambda: fleet.backend.responds("/api/v1/health/ready"))
    for worker in fleet.workers:
        wait_for(worker.worker_id, partial(_is_registered, worker), 60)


def _is_registered(worker: FleetWorker) -> bool:
    with suppress(httpx.HTTPError):
        response = httpx.get(f"{worker.process.url}/health", timeout=2, trust_env=False)
        return WorkerHealth.model_validate_json(response.content).registered
    return False
