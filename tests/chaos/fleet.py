"""The processes that faults are injected into: one backend, two workers of each type."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx

from ktrdr.client.backend import Backend
from ktrdr.contracts import Operation, WorkerHealth
from tests.integration.postgres import Server
from tests.integration.processes import Process, Site, wait_for
from tests.integration.sshd import free_port

LEASE_S = 3
KINDS = ("backtest", "backtest", "training", "training")


@dataclass
class Member:
    """One worker: the same id and port over all its lives."""

    kind: str
    port: int
    process: Process

    @property
    def worker_id(self) -> str:
        """What the backend knows it by."""
        prefix = "backtesting" if self.kind == "backtest" else self.kind
        return f"{prefix}-127-{self.port}"


@dataclass
class Fleet:
    """What there is to break.

    Attributes:
        server: The database server.
        site: Database, shared directory and processes.
        api_port: The backend's port, over all its lives.
        backend: The backend.
        members: The workers.
    """

    server: Server
    site: Site
    api_port: int = field(default_factory=free_port)
    backend: Process = field(init=False)
    client: Backend = field(init=False)
    members: list[Member] = field(default_factory=list)

    def start(self) -> None:
        """Starts everything."""
        self.start_backend()
        self.client = self.site.client(self.backend)
        for kind in KINDS:
            port = free_port()
            self.members.append(Member(kind, port, self._worker(kind, port)))

    def start_backend(self) -> None:
        """Starts the backend, where it was before."""
        self.backend = self.site.backend(self.api_port, SWEEP_EVERY_S="1")

    def revive(self, member: Member) -> None:
        """Starts a worker again that has ended."""
        member.process.popen.wait(40)
        member.process = self._worker(member.kind, member.port)

    def running_on(self, member: Member) -> list[Operation]:
        """The operations that a worker works on."""
        page = self.client.operations(status="running", limit=200)
        return [each for each in page.operations if each.worker_id == member.worker_id]

    def all_running(self) -> list[Operation]:
        """The operations that anybody works on."""
        return list(self.client.operations(status="running", limit=200).operations)

    def all_operations(self) -> list[Operation]:
        """Every operation there is."""
        found: list[Operation] = []
        cursor = None
        while True:
            page = self.client.operations(limit=200, cursor=cursor)
            found += page.operations
            cursor = page.next_cursor
            if cursor is None:
                return found

    def _worker(self, kind: str, port: int) -> Process:
        return self.site.worker(kind, self.backend, port=port, LEASE_S=str(LEASE_S))


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
