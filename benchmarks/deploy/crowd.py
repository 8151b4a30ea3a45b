"""Fifty worker nodes against three: real SSH servers, and a stand-in for Docker behind each.

All of them, and whoever deploys to them, share this machine. So a deploy to fifty does the work of
fifty hosts as well as its own, which in a homelab would be theirs.
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
from benchmarks.deploy.ground import OTHER_TAG as TAG
from benchmarks.deploy.ground import Ground
from benchmarks.samples import Goal, Outcome, Samples, ratio, timed
from ktrdr.deployment.deploy.options import DEFAULT_PARALLEL
from lab import vault
from lab.config import ROOT, STANDINS
from tests.integration.sshd import Sshd

DOMAIN: Final = "crowd.test"
_STANDIN: Final = Path(__file__).with_name("standin_docker.c")
_PORTS: Final = (5003, 5005)


def fifty_and_three(ground: Ground, most: int, rounds: int) -> Outcome:
    """Deploys that change nothing, to ``most`` nodes and to three of them, in random order."""
    sizes, dice = [3, most], random.Random(1)
    taken: dict[int, list[float]] = {size: [] for size in sizes}
    plain: dict[int, list[float]] = {size: [] for size in sizes}
    with crowd(ground.directory / "crowd", most) as nodes:
        nodes.deploy(most)
        for _ in range(rounds):
            for size in dice.sample(sizes, len(sizes)):
                taken[size].append(timed(partial(nodes.deploy, size)))
                plain[size].append(timed(partial(nodes.log_in, size)))
        outcome = Outcome("nothing to change, three nodes and many", _COLUMNS)
        for size in sizes:
            own = statistics.median(nodes.processor_s[size])
            counts = map(str, nodes.counted(size))
            figures = _figures(taken[size])
            outcome.rows.append([f"{size} nodes", *figures, f"{own:.2f}", *counts])
        for size in sizes:
            figures = _figures(plain[size])
            outcome.rows.append([f"{size} bare logins", *figures, "", str(size), str(size)])
    times = ratio(Samples(taken[most]), Samples(taken[3]))
    outcome.goals = [Goal(f"{most} nodes against 3", 3, times, "times")]
    floor = ratio(Samples(plain[most]), Samples(plain[3]))
    outcome.notes = [
        "ssh and sshd are real; Docker and the backend are stand-ins; all of it is here",
        "own: what ktrdr, op and the ssh clients took of the processors; the rest is the nodes'",
        f"to log in at {most} nodes and do nothing takes {floor:.1f} times as long as at 3",
    ]
    return outcome


def _figures(taken: Sequence[float]) -> list[str]:
    """How often, and the least, the middle and the most (s)."""
    samples = Samples(taken)
    seconds = [samples.percentile(share) / 1000 for share in (0, 0.5, 1)]
    return [str(len(taken)), *(f"{each:.2f}" for each in seconds)]


# The post-quantum exchange of OpenSSH 9 takes 0.1 s of processor time a login here, for both ends
# together, which has nothing to do with a deploy.
_KEY_EXCHANGE: Final = "KexAlgorithms curve25519-sha256"

_COLUMNS: Final = ("", "n", "min s", "p50 s", "max s", "own s", "connections", "commands")


class Crowd:
    """Nodes that answer, and the files that `ktrdr` needs to deploy to some of them.

    Attributes:
        processor_s: By the number of nodes, what each deploy took of the processors here (s).
    """

    def __init__(self, directory: Path, servers: Sequence[Sshd], api_url: str) -> None:
        self.processor_s: defaultdict[int, list[float]] = defaultdict(list)
        self._directory = directory
        self._servers = servers
        self._env = _environment(directory, servers, api_url)

    def deploy(self, size: int) -> None:
        """Deploys to the first so many nodes."""
        inventory = self._directory / f"inventory-{size}.yml"
        if not inventory.exists():
            inventory.write_text(yaml.safe_dump(_inventory(self._directory, size)))
        command = (KTRDR, "deploy", "workers", "all", "--tag", TAG, "--inventory", str(inventory))
        before = _processor_s()
        done = subprocess.run(
            command, cwd=ROOT, env=self._env, stdin=subprocess.DEVNULL, capture_output=True
        )
        self.processor_s[size].append(_processor_s() - before)
        said = (done.stdout + done.stderr).decode()
        assert done.returncode == 0, said[-4000:]
        assert "warning" not in said, said[-4000:]

    def log_in(self, size: int) -> None:
        """Does nothing on so many nodes, as many at once as a deploy has by default."""

        def once(number: int) -> None:
            node = f"{_name(number)}.{DOMAIN}"
            command = ("ssh", "-F", self._env["KTRDR_SSH_CONFIG"], node, "true")
            subprocess.run(command, env=self._env, stdin=subprocess.DEVNULL, check=True)

        with ThreadPoolExecutor(DEFAULT_PARALLEL) as pool:
            list(pool.map(once, range(1, size + 1)))

    def counted(self, size: int) -> tuple[int, int]:
        """The connections and remote commands of a deploy to so many nodes."""
        before = self._counts()
        self.deploy(size)
        after = self._counts()
        return after[0] - before[0], after[1] - before[1]

    def _counts(self) -> tuple[int, int]:
        said = "".join((each.directory / "sshd.log").read_text() for each in self._servers)
        return said.count("Accepted publickey"), said.count("Starting session")


def _processor_s() -> float:
    """What all children that have ended took; servers that still run are none of them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def crowd(directory: Path, size: int) -> Iterator[Crowd]:
    """So many nodes and a backend, which end with the block."""
    # Others than us have to get through, as to a host's own directories.
    for place in (directory.parent, directory):
        place.mkdir(exist_ok=True)
        place.chmod(0o755)
    (directory / "bin").mkdir()
    compiled = ("cc", "-O2", "-static", "-o", str(directory / "bin" / "docker"), str(_STANDIN))
    subprocess.run(compiled, check=True)
    with ExitStack() as stack, ThreadPoolExecutor(4) as pool:
        servers = list(pool.map(lambda number: _start(directory, number), range(1, size + 1)))
        for server in servers:
            stack.callback(server.stop)
        api_url = stack.enter_context(_backend(size))
        yield Crowd(directory, servers, api_url)


def _start(directory: Path, number: int) -> Sshd:
    place = directory / _name(number)
    (place / "shared" / "data").mkdir(parents=True)
    (place / "shared").chmod(0o777)
    server = Sshd(place)
    path = f"{directory / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    environment = {"PATH": path, "CROWD_TAG": TAG, "CROWD_DIRECTORY": str(directory)}
    # "-r": it does not start its program anew for each login.
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
            "db_username": "crowd",
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
    """A stand-in for the backend: it lists every worker of the crowd, and nothing else."""
    listed = json.dumps([_worker(n, port) for n in range(1, size + 1) for port in _PORTS]).encode()

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's name
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(listed)))
            self.end_headers()
            self.wfile.write(listed)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
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
