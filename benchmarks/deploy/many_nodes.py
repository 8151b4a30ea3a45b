"""Deploys to fifty worker nodes compared with three: real SSH servers with stand-ins for Docker.

The nodes and the deploy share this machine. So a deploy to fifty nodes also does the work of the
fifty nodes, which are separate hosts in a homelab.
"""

from __future__ import annotations

import json
import random
import resource
import secrets
import shlex
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Final

import yaml

from benchmarks.deploy.contenders import KTRDR
from benchmarks.deploy.environment import OTHER_TAG as TAG
from benchmarks.deploy.environment import BenchmarkEnvironment
from benchmarks.samples import Goal, Outcome, Samples, ratio, timed
from ktrdr.deployment.deploy.options import DEFAULT_PARALLEL
from lab import vault
from lab.config import ROOT, STANDINS
from tests.integration.sshd import Sshd

DOMAIN: Final = "bench.test"
_STANDIN: Final = Path(__file__).with_name("standin_docker.c")
_PORTS: Final = (5003, 5005)


def measure_many_nodes(env: BenchmarkEnvironment, most: int, rounds: int) -> Outcome:
    """Measure deploys without changes to ``most`` nodes and to three of them, in random order."""
    sizes, dice = [3, most], random.Random(1)
    deploys: dict[int, list[float]] = {size: [] for size in sizes}
    logins: dict[int, list[float]] = {size: [] for size in sizes}
    with simulated_nodes(env.directory / "nodes", most) as nodes:
        nodes.deploy(most)
        for _ in range(rounds):
            for size in dice.sample(sizes, len(sizes)):
                deploys[size].append(timed(partial(nodes.deploy, size)))
                logins[size].append(timed(partial(nodes.log_in, size)))
        outcome = Outcome("no changes, three nodes and many", _COLUMNS)
        for size in sizes:
            own = statistics.median(nodes.processor_s[size])
            counts = map(str, nodes.count_connections(size))
            figures = _figures(deploys[size])
            outcome.rows.append([f"{size} nodes", *figures, f"{own:.2f}", *counts])
        for size in sizes:
            figures = _figures(logins[size])
            outcome.rows.append([f"{size} logins only", *figures, "", str(size), str(size)])
    times = ratio(Samples(deploys[most]), Samples(deploys[3]))
    outcome.goals = [Goal(f"{most} nodes against 3", 3, times, "times")]
    login_ratio = ratio(Samples(logins[most]), Samples(logins[3]))
    outcome.notes = [
        "ssh and sshd are real; Docker and the backend are stand-ins; all run on this machine",
        "own: processor time of ktrdr, op and the ssh clients; the rest is that of the nodes",
        f"logging in to {most} nodes takes {login_ratio:.1f} times as long as to 3",
    ]
    return outcome


def _figures(durations: Sequence[float]) -> list[str]:
    """Return the number of durations, and their minimum, median and maximum (s)."""
    samples = Samples(durations)
    seconds = [samples.percentile(share) / 1000 for share in (0, 0.5, 1)]
    return [str(len(durations)), *(f"{value:.2f}" for value in seconds)]


# The post-quantum key exchange of OpenSSH 9 takes 0.1 s of processor time per login here, for both
# ends together, which has nothing to do with a deploy.
_KEY_EXCHANGE: Final = "KexAlgorithms curve25519-sha256"

_COLUMNS: Final = ("", "n", "min s", "p50 s", "max s", "own s", "connections", "commands")


class SimulatedNodes:
    """Nodes with SSH servers, and the files that `ktrdr` needs to deploy to some of them.

    Attributes:
        processor_s: Processor time of each deploy (s), by number of nodes.
    """

    def __init__(self, directory: Path, servers: Sequence[Sshd], api_url: str) -> None:
        self.processor_s: defaultdict[int, list[float]] = defaultdict(list)
        self._directory = directory
        self._servers = servers
        self._env = _environment(directory, servers, api_url)

    def deploy(self, size: int) -> None:
        """Deploy to the first ``size`` nodes."""
        inventory = self._directory / f"inventory-{size}.yml"
        if not inventory.exists():
            inventory.write_text(yaml.safe_dump(_inventory(self._directory, size)))
        command = (KTRDR, "deploy", "workers", "all", "--tag", TAG, "--inventory", str(inventory))
        before = _processor_s()
        done = subprocess.run(
            command, cwd=ROOT, env=self._env, stdin=subprocess.DEVNULL, capture_output=True
        )
        self.processor_s[size].append(_processor_s() - before)
        output = (done.stdout + done.stderr).decode()
        assert done.returncode == 0, output[-4000:]
        assert "warning" not in output, output[-4000:]

    def log_in(self, size: int) -> None:
        """Log in to the first ``size`` nodes, with the parallelism of a deploy."""

        def log_in_to(number: int) -> None:
            node = f"{_name(number)}.{DOMAIN}"
            command = ("ssh", "-F", self._env["KTRDR_SSH_CONFIG"], node, "true")
            subprocess.run(command, env=self._env, stdin=subprocess.DEVNULL, check=True)

        with ThreadPoolExecutor(DEFAULT_PARALLEL) as pool:
            list(pool.map(log_in_to, range(1, size + 1)))

    def count_connections(self, size: int) -> tuple[int, int]:
        """Deploy to ``size`` nodes; return the numbers of connections and remote commands."""
        before = self._counts()
        self.deploy(size)
        after = self._counts()
        return after[0] - before[0], after[1] - before[1]

    def _counts(self) -> tuple[int, int]:
        log = "".join((server.directory / "sshd.log").read_text() for server in self._servers)
        return log.count("Accepted publickey"), log.count("Starting session")


def _processor_s() -> float:
    """Return the processor time of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def simulated_nodes(directory: Path, size: int) -> Iterator[SimulatedNodes]:
    """Run ``size`` nodes and a backend during the block."""
    # Readable by other users, as the directories of a host are.
    for path in (directory.parent, directory):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
    (directory / "bin").mkdir()
    compiler = ("cc", "-O2", "-static", "-o", str(directory / "bin" / "docker"), str(_STANDIN))
    subprocess.run(compiler, check=True)
    with ExitStack() as stack, ThreadPoolExecutor(4) as pool:
        servers = list(
            pool.map(lambda number: _start_server(directory, number), range(1, size + 1))
        )
        for server in servers:
            stack.callback(server.stop)
        api_url = stack.enter_context(_backend(size))
        yield SimulatedNodes(directory, servers, api_url)


def _start_server(directory: Path, number: int) -> Sshd:
    node_directory = directory / _name(number)
    (node_directory / "shared" / "data").mkdir(parents=True)
    (node_directory / "shared").chmod(0o777)
    server = Sshd(node_directory)
    path = f"{directory / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    environment = {"PATH": path, "CROWD_TAG": TAG, "CROWD_DIRECTORY": str(directory)}
    # "-r": do not re-execute the server for each login.
    server.start("LogLevel VERBOSE", options=["-r"], environment=environment)
    return server


def _name(number: int) -> str:
    return f"n{number:02}"


def _inventory(directory: Path, size: int) -> Mapping[str, object]:
    workers = {
        name.upper(): {
            "host": f"{name}.{DOMAIN}",
            "workdir": str(directory / name / "work"),
            "shared_directory": str(directory / name / "shared"),
        }
        for name in map(_name, range(1, size + 1))
    }
    return {"domain": DOMAIN, "workers": workers, "minimum_free_mb": 1}


def _environment(directory: Path, servers: Sequence[Sshd], api_url: str) -> dict[str, str]:
    config = directory / "ssh_config"
    sections = [
        server.client_config().read_text().replace("Host *", f"Host {server.directory.name}.*")
        for server in servers
    ]
    config.write_text("\n".join([_KEY_EXCHANGE, *sections]))
    file, op = directory / "vault.json", directory / "bin" / "op"
    vault.write_file(
        file,
        {
            "db_username": "bench",
            **{name: secrets.token_urlsafe(48) for name in _SECRETS},
        },
    )
    program = [sys.executable, "-IS", str(STANDINS / "op.py"), str(file)]
    op.write_text(f'#!/bin/sh\nexec {shlex.join(program)} "$@"\n')
    op.chmod(0o755)
    return {
        "PATH": f"{directory / 'bin'}:/usr/bin:/bin",
        "HOME": str(directory),
        "KTRDR_SSH_CONFIG": str(config),
        "KTRDR_API_URL": api_url,
        "KTRDR_CONFIG": str(directory / "ktrdr.toml"),
    }


_SECRETS: Final = ("db_password", "jwt_secret", "grafana_password", "ghcr_token")


@contextmanager
def _backend(size: int) -> Iterator[str]:
    """Run a stand-in for the backend that only lists the workers of all nodes."""
    workers = json.dumps([_worker(n, port) for n in range(1, size + 1) for port in _PORTS]).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's name
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(workers)))
            self.end_headers()
            self.wfile.write(workers)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _worker(number: int, port: int) -> Mapping[str, object]:
    host = f"{_name(number)}.{DOMAIN}"
    return {
        "worker_id": f"{host}-{port}",
        "worker_type": "backtesting",
        "endpoint_url": f"http://{host}:{port}",
        "status": "available",
        "current_operation_id": None,
        "capabilities": {},
        "version": TAG,
        "node": host,
        "registered_at": "2026-01-01T00:00:00Z",
        "last_healthy_at": "2026-01-01T00:00:00Z",
        "health_check_failures": 0,
    }
