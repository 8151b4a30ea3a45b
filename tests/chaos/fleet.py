"""The processes that faults are injected into: one backend, two nodes with two workers each."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx

from ktrdr.client.backend import BackendClient
from ktrdr.schemas import Operation, WorkerHealth
from tests.chaos.link import Link
from tests.integration.postgres import Server
from tests.integration.processes import Process, Site, wait_for
from tests.integration.sshd import free_port

LEASE_S = 3
NODES = (("backtest", "training"), ("backtest", "training"))
FIRST_VERSION = "sha-0000001"
_COUNTED = re.compile(
    r'^ktrdr_operations_finished_total\{operation_type="(\w+)",status="(\w+)"\} ([\d.]+)$', re.M
)


@dataclass
class Member:
    """One worker: the same id and ports over all its lives.

    Attributes:
        to_backend: What it reaches the backend through.
        to_database: The same for the database.
        from_backend: What the backend reaches it through.
        counted: Operations that its earlier processes counted as ended, by type and status.
    """

    kind: str
    node: int
    port: int
    to_backend: Link
    to_database: Link
    from_backend: Link
    version: str = FIRST_VERSION
    process: Process = field(init=False)
    counted: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def worker_id(self) -> str:
        """What the backend knows it by."""
        prefix = "backtesting" if self.kind == "backtest" else self.kind
        return f"{prefix}-127-{self.from_backend.port}"

    @property
    def links(self) -> tuple[Link, Link, Link]:
        """All its cables."""
        return self.to_backend, self.to_database, self.from_backend

    def counts(self) -> Counter[tuple[str, str]]:
        """What the process that runs now has counted as ended."""
        with suppress(httpx.HTTPError):
            text = httpx.get(f"{self.process.url}/metrics", timeout=2, trust_env=False).text
            return Counter({(t, s): int(float(n)) for t, s, n in _COUNTED.findall(text)})
        return Counter()


@dataclass
class Fleet:
    """What there is to break.

    Attributes:
        server: The database server.
        site: Database, shared directory and processes.
        api_port: The backend's port, over all its lives.
        backend: The backend.
        members: The workers.
        killed: How many workers were killed before their counters could be read a last time.
    """

    server: Server
    site: Site
    api_port: int = field(default_factory=free_port)
    backend: Process = field(init=False)
    client: BackendClient = field(init=False)
    members: list[Member] = field(default_factory=list)
    killed: int = 0

    def start(self) -> None:
        """Starts everything."""
        self.start_backend()
        self.client = self.site.client(self.backend)
        for node, kinds in enumerate(NODES):
            for kind in kinds:
                port = free_port()
                member = Member(
                    kind,
                    node,
                    port,
                    to_backend=Link(self.api_port),
                    to_database=Link(self.site.settings.db_port),
                    from_backend=Link(port),
                )
                member.process = self._worker(member)
                self.members.append(member)

    def close(self) -> None:
        """Pulls every cable for good."""
        for member in self.members:
            for link in member.links:
                link.close()

    def start_backend(self) -> None:
        """Starts the backend, where it was before."""
        self.backend = self.site.backend(self.api_port, SWEEP_EVERY_S="1")

    def remember(self, member: Member) -> Counter[tuple[str, str]]:
        """Keeps what a worker that is about to end has counted."""
        found = member.counts()
        member.counted += found
        return found

    def revive(self, member: Member) -> None:
        """Starts a worker again that has ended."""
        member.process.popen.wait(40)
        member.process = self._worker(member)

    def running_on(self, member: Member) -> list[Operation]:
        """The operations that a worker works on."""
        return [each for each in self.all_running() if each.worker_id == member.worker_id]

    def all_running(self) -> list[Operation]:
        """The operations that a worker works on; not those whose parts are worked on."""
        page = self.client.list_operations(status="running", limit=500, parts=True)
        parents = {each.parent_id for each in page.operations}
        return [each for each in page.operations if each.operation_id not in parents]

    def all_operations(self) -> list[Operation]:
        """Every operation there is, parts too."""
        found: list[Operation] = []
        cursor = None
        while True:
            page = self.client.list_operations(limit=500, cursor=cursor, parts=True)
            found += page.operations
            cursor = page.next_cursor
            if cursor is None:
                return found

    def _worker(self, member: Member) -> Process:
        return self.site.worker(
            member.kind,
            self.backend,
            port=member.port,
            LEASE_S=str(LEASE_S),
            IMAGE_TAG=member.version,
            KTRDR_API_URL=f"http://127.0.0.1:{member.to_backend.port}",
            WORKER_PUBLIC_BASE_URL=f"http://127.0.0.1:{member.from_backend.port}",
            DB_PORT=str(member.to_database.port),
        )


def children_of(pid: int) -> list[int]:
    """The processes that a process has started and that still live."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parts = (entry / "stat").read_text().rpartition(")")[2].split()
                if parts[0] != "Z" and int(parts[1]) == pid:
                    found.append(int(entry.name))
    return found


def kill_children(pid: int) -> bool:
    """Kills what a process has started; says whether there was anything."""
    children = children_of(pid)
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    return bool(children)


def wait_until_all_answer(fleet: Fleet) -> None:
    """Waits until backend and workers serve requests, and the workers are registered."""
    wait_for("the backend", lambda: fleet.backend.answers("/api/v1/health/ready"))
    for member in fleet.members:
        wait_for(member.worker_id, partial(_is_registered, member), 60)


def _is_registered(member: Member) -> bool:
    with suppress(httpx.HTTPError):
        answer = httpx.get(f"{member.process.url}/health", timeout=2, trust_env=False)
        return WorkerHealth.model_validate_json(answer.content).registered
    return False
