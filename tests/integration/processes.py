"""Backends and workers as real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from ktrdr.client.backend import BackendClient
from ktrdr.secret import Secret
from ktrdr.settings import Settings
from ktrdr.tokens import Role, create_token
from tests.integration.sshd import free_port

JWT_SECRET = Secret("a secret of the tests, which is long enough")
NODE = "127.0.0.1"


def token(
    role: Role, *, secret: Secret = JWT_SECRET, node: str = NODE, lifetime: float = 3600
) -> Secret:
    """Create a token as a deploy or `ktrdr token create` does."""
    return create_token(
        secret,
        subject=f"test {role}",
        role=role,
        lifetime=timedelta(seconds=lifetime),
        now=datetime.now(UTC),
        node=node if role is Role.WORKER else None,
    )


def wait_for(what: str, condition: Callable[[], object], seconds: float = 30) -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"{what}: not reached within {seconds} s")


def child_pids(pid: int) -> list[int]:
    """Return the living child processes of a process."""
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z" and int(parent) == pid:
                    pids.append(int(entry.name))
    return pids


@dataclass
class ServerProcess:
    """Process of a backend or a worker."""

    popen: subprocess.Popen[bytes]
    url: str
    log: Path

    @property
    def output(self) -> str:
        """Everything that the process has written."""
        return self.log.read_text(errors="replace")

    def responds(self, path: str) -> bool:
        """Return True if a request succeeds; fail if the process has ended."""
        try:
            return httpx.get(f"{self.url}{path}", timeout=2, trust_env=False).is_success
        except httpx.HTTPError:
            if self.popen.poll() is not None:
                raise AssertionError(f"the process ended: {self.output[-3000:]}") from None
            return False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        self.popen.send_signal(number)

    def stop(self, seconds: float = 30) -> float:
        """Stop the process as Docker does, and return the seconds that it took."""
        start = time.monotonic()
        self.popen.terminate()
        self.popen.wait(seconds)
        return time.monotonic() - start


@dataclass
class Runtime:
    """Database, shared directory, and the processes that use them."""

    settings: Settings
    shared: Path
    logs: Path
    processes: list[ServerProcess] = field(default_factory=list)
    clients: list[BackendClient] = field(default_factory=list)

    def environment(self, **extra: str) -> dict[str, str]:
        """Return the environment of a process."""
        inherited = {
            name: os.environ[name]
            for name in ("PATH", "HOME", "LANG", "PYTHONPATH")
            if name in os.environ
        }
        return {
            **inherited,
            "DB_HOST": self.settings.db_host,
            "DB_PORT": str(self.settings.db_port),
            "DB_NAME": self.settings.db_name,
            "DB_USER": self.settings.db_user.reveal(),
            "DB_PASSWORD": self.settings.db_password.reveal(),
            "SHARED_MOUNT_PATH": str(self.shared),
            "IMAGE_TAG": "sha-7e57ed0",
            **extra,
        }

    def start(self, entry_point: str, port: int, **environment: str) -> ServerProcess:
        """Start uvicorn with an entry point."""
        log = self.logs / f"{len(self.processes)}.log"
        command = [sys.executable, "-m", "uvicorn", "--factory", entry_point, "--port", str(port)]
        # As in the compose files. Without it, an open stream would delay the shutdown.
        command += ["--timeout-graceful-shutdown", "3"]
        with log.open("wb") as file:
            # Not in the checkout, because Python would find its modules before those of PYTHONPATH.
            popen = subprocess.Popen(
                command,
                env=self.environment(**environment),
                cwd=self.logs,
                stdout=file,
                stderr=file,
            )
        process = ServerProcess(popen, f"http://127.0.0.1:{port}", log)
        self.processes.append(process)
        return process

    def backend(self, port: int | None = None, **environment: str) -> ServerProcess:
        """Start a backend and wait until it responds."""
        quick = {"HEALTH_CHECK_INTERVAL_S": "0.5", "HEALTH_CHECK_TIMEOUT_S": "1"}
        process = self.start(
            "ktrdr.api.main:app",
            port or free_port(),
            JWT_SECRET=JWT_SECRET.reveal(),
            **{**quick, **environment},
        )
        wait_for("the backend", lambda: process.responds("/api/v1/health/ready"))
        return process

    def worker(
        self, kind: str, backend: ServerProcess, *, port: int | None = None, **environment: str
    ) -> ServerProcess:
        """Start a worker and wait until it responds."""
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
        wait_for("the worker", lambda: process.responds("/health"))
        return process

    def client(self, backend: ServerProcess, role: Role = Role.OPERATOR) -> BackendClient:
        """Return a client with a token of a role."""
        client = BackendClient(backend.url, token(role))
        self.clients.append(client)
        return client

    def stop_all(self) -> None:
        """Close the clients and kill the processes that still run."""
        for client in self.clients:
            client.close()
        for process in reversed(self.processes):
            if process.popen.poll() is None:
                process.popen.kill()
            process.popen.wait(10)


@contextmanager
def open_runtime(settings: Settings, directory: Path) -> Iterator[Runtime]:
    """Provide a runtime whose processes end with the block."""
    shared, logs = directory / "shared", directory / "logs"
    shared.mkdir()
    logs.mkdir()
    runtime = Runtime(settings, shared, logs)
    try:
        yield runtime
    finally:
        runtime.stop_all()


def run_ktrdr(backend: ServerProcess, *arguments: str, exit_code: int = 0) -> str:
    """Run a `ktrdr` command as an operator, and return all its output."""
    inherited = {
        name: os.environ[name]
        for name in ("PATH", "HOME", "LANG", "PYTHONPATH")
        if name in os.environ
    }
    result = subprocess.run(
        [Path(sys.executable).with_name("ktrdr"), *arguments],
        env={
            **inherited,
            "KTRDR_API_URL": backend.url,
            "KTRDR_TOKEN": token(Role.OPERATOR).reveal(),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == exit_code, result.stdout
    return result.stdout
