"""Starts backends and workers as real processes, and stops exactly those."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from ktrdr.client.backend import BackendClient
from ktrdr.secret import Secret
from ktrdr.settings import Settings
from ktrdr.tokens import Role, mint
from tests.integration.sshd import free_port

JWT_SECRET = Secret("a secret of the tests, which is long enough")
NODE = "127.0.0.1"


def token(
    role: Role, *, secret: Secret = JWT_SECRET, node: str = NODE, lifetime: float = 3600
) -> Secret:
    """A token as a deploy or `ktrdr token create` would make it."""
    return mint(
        secret,
        subject=f"test {role}",
        role=role,
        lifetime=timedelta(seconds=lifetime),
        now=datetime.now(UTC),
        node=node if role is Role.WORKER else None,
    )


def wait_for(what: str, condition: Callable[[], object], seconds: float = 30) -> None:
    """Polls until a condition holds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"{what}: not so within {seconds} s")


@dataclass
class Process:
    """A server process, and where it answers."""

    popen: subprocess.Popen[bytes]
    url: str
    log: Path

    @property
    def output(self) -> str:
        """What it has written."""
        return self.log.read_text(errors="replace")

    def answers(self, path: str) -> bool:
        """Whether it serves requests."""
        try:
            return httpx.get(f"{self.url}{path}", timeout=2, trust_env=False).is_success
        except httpx.HTTPError:
            if self.popen.poll() is not None:
                raise AssertionError(f"it ended: {self.output[-3000:]}") from None
            return False

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the server itself."""
        self.popen.send_signal(number)

    def stop(self, seconds: float = 30) -> float:
        """Ends it as Docker would, and gives the seconds that took."""
        began = time.monotonic()
        self.popen.terminate()
        self.popen.wait(seconds)
        return time.monotonic() - began


@dataclass
class Site:
    """A database, a shared directory, and the processes that were started on them."""

    settings: Settings
    shared: Path
    logs: Path
    processes: list[Process] = field(default_factory=list)
    clients: list[BackendClient] = field(default_factory=list)

    def environment(self, **more: str) -> dict[str, str]:
        """What every process is told."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return {
            **kept,
            "DB_HOST": self.settings.db_host,
            "DB_PORT": str(self.settings.db_port),
            "DB_NAME": self.settings.db_name,
            "DB_USER": self.settings.db_user.reveal(),
            "DB_PASSWORD": self.settings.db_password.reveal(),
            "SHARED_MOUNT_PATH": str(self.shared),
            "IMAGE_TAG": "sha-7e57ed0",
            **more,
        }

    def start(self, entry: str, port: int, **environment: str) -> Process:
        """Starts a uvicorn with an entry point."""
        log = self.logs / f"{len(self.processes)}.log"
        command = [sys.executable, "-m", "uvicorn", "--factory", entry, "--port", str(port)]
        # As in the compose files: without it, one who watches would hold a stopping server up.
        command += ["--timeout-graceful-shutdown", "3"]
        with log.open("wb") as file:
            # Not in the checkout, which Python would look for modules in before PYTHONPATH.
            popen = subprocess.Popen(
                command,
                env=self.environment(**environment),
                cwd=self.logs,
                stdout=file,
                stderr=file,
            )
        process = Process(popen, f"http://127.0.0.1:{port}", log)
        self.processes.append(process)
        return process

    def backend(self, port: int | None = None, **environment: str) -> Process:
        """Starts a backend and waits until it answers."""
        quick = {"HEALTH_CHECK_INTERVAL_S": "0.5", "HEALTH_CHECK_TIMEOUT_S": "1"}
        process = self.start(
            "ktrdr.api.main:app",
            port or free_port(),
            JWT_SECRET=JWT_SECRET.reveal(),
            **{**quick, **environment},
        )
        wait_for("the backend", lambda: process.answers("/api/v1/health/ready"))
        return process

    def worker(
        self, kind: str, backend: Process, *, port: int | None = None, **environment: str
    ) -> Process:
        """Starts a worker and waits until it answers."""
        port = port or free_port()
        process = self.start(
            f"ktrdr.workers.{kind}:app",
            port,
            **{
                "KTRDR_API_URL": backend.url,
                "WORKER_TYPE": "backtesting" if kind == "backtest" else kind,
                "WORKER_PORT": str(port),
                "WORKER_PUBLIC_BASE_URL": f"http://127.0.0.1:{port}",
                "WORKER_TOKEN": token(Role.WORKER).reveal(),
                "LEASE_S": "3",
                **environment,
            },
        )
        wait_for("the worker", lambda: process.answers("/health"))
        return process

    def client(self, backend: Process, role: Role = Role.OPERATOR) -> BackendClient:
        """A client with a token of a role."""
        client = BackendClient(backend.url, token(role))
        self.clients.append(client)
        return client

    def end(self) -> None:
        """Ends what still runs."""
        for client in self.clients:
            client.close()
        for process in reversed(self.processes):
            if process.popen.poll() is None:
                process.popen.kill()
            process.popen.wait(10)


@contextmanager
def site(settings: Settings, directory: Path) -> Iterator[Site]:
    """A site whose processes end with the block."""
    shared, logs = directory / "shared", directory / "logs"
    shared.mkdir()
    logs.mkdir()
    found = Site(settings, shared, logs)
    try:
        yield found
    finally:
        found.end()


def ktrdr(backend: Process, *words: str, exit_code: int = 0) -> str:
    """Runs the command line against a backend as an operator; gives all that it writes."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    done = subprocess.run(
        [Path(sys.executable).with_name("ktrdr"), *words],
        env={
            **kept,
            "KTRDR_API_URL": backend.url,
            "KTRDR_TOKEN": token(Role.OPERATOR).reveal(),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == exit_code, done.stdout
    return done.stdout
