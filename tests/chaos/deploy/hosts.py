"""A host of the lab, looked at past everything that is tested."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ktrdr.deployment.hosts.history import RECORDS
from lab import containers
from lab.place import NETWORK, NODES, Node

# What the health checks of the services are asked for: the port, the path.
_WORKERS = {"backtest-worker-1": 5003, "training-worker-1": 5005}
_CORE = ("db", "backend", "prometheus", "grafana", "jaeger", "nfs-server")
_LOOK = (
    'docker ps --all --quiet | xargs -r docker inspect --format \'{"service":'
    '{{json (index .Config.Labels "com.docker.compose.service")}},"image":{{json .Config.Image}},'
    '"name":{{json .Name}},"status":{{json .State.Status}},'
    '"health":{{if .State.Health}}{{json .State.Health.Status}}{{else}}""{{end}}}\''
)
# What a deploy starts on a host, by the beginning of its command line.
_OURS = (
    ("sh", "-s"),
    ("docker", "compose"),
    ("docker-compose",),
    ("setsid",),
    ("sh", "-c", "# Start the services of a project again"),
    ("sleep", "5"),
    ("flock",),
    ("timeout", "-s", "KILL"),
    ("tar",),
)


@dataclass(frozen=True)
class Process:
    """A process of a host, by its number on this machine."""

    pid: int
    parent: int
    words: tuple[str, ...]

    def begins_with(self, *words: str) -> bool:
        """Whether its command line does, whatever directory its program is in."""
        mine = (self.words[0].rpartition("/")[2], *self.words[1:])
        pairs = zip(mine, words, strict=False)
        return len(mine) >= len(words) and all(one.startswith(other) for one, other in pairs)


@dataclass(frozen=True)
class Host:
    """One host.

    Attributes:
        node: Its container.
    """

    node: Node

    @property
    def name(self) -> str:
        """What a deploy calls it."""
        return "core" if self.node.key == "core" else f"workers {self.node.key}"

    @property
    def workdir(self) -> str:
        """Where its configuration is."""
        key = self.node.key.lower()
        return "/opt/ktrdr-core" if key == "core" else f"/opt/ktrdr-workers-{key}"

    @property
    def services(self) -> Sequence[str]:
        """What is to run on it."""
        return _CORE if self.node.key == "core" else tuple(_WORKERS)

    @property
    def asked(self) -> dict[str, tuple[int, str]]:
        """The services that say what version they are: port and path."""
        if self.node.key == "core":
            return {"backend": (8000, "/api/v1/health")}
        return {name: (port, "/health") for name, port in _WORKERS.items()}

    @cached_property
    def _state(self) -> dict[str, Any]:
        found = containers.inspect(self.node.container)
        assert found, f"{self.node.container} is not there"
        return found

    @property
    def address(self) -> str:
        """Where this machine reaches its ports."""
        return str(self._state["NetworkSettings"]["Networks"][NETWORK]["IPAddress"])

    @property
    def root(self) -> Path:
        """Its file system."""
        return Path(f"/proc/{self._state['State']['Pid']}/root")

    @property
    def records(self) -> Path:
        """What deploys remember there."""
        return self.root / self.workdir.lstrip("/") / RECORDS

    def run(self, script: str, *, check: bool = True, timeout: float = 60) -> str:
        """What a shell script prints there."""
        command = ("sh", "-c", script)
        return containers.execute(self.node.container, *command, check=check, timeout=timeout)

    def containers(self) -> list[dict[str, str]]:
        """All containers; none while Docker does not answer."""
        lines = self.run(_LOOK, check=False).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def tags(self) -> set[str]:
        """The tags that its own services' containers were made of."""
        return {
            each["image"].rpartition(":")[2]
            for each in self.containers()
            if each["service"] in self.asked
        }

    def history(self) -> list[str]:
        """The lines of its history."""
        with suppress(FileNotFoundError):
            return (self.records / "history.jsonl").read_text(errors="replace").splitlines()
        return []

    def lock_is_free(self) -> bool:
        """Whether nobody has its lock."""
        try:
            with (self.records / "lock").open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return True
        except BlockingIOError:
            return False
        return True

    def processes(self) -> list[Process]:
        """Its processes, without those inside its containers."""
        space = _space(self._state["State"]["Pid"])
        found = (_process(pid) for pid in numbers_of_processes() if _space(pid) == space)
        return [process for process in found if process]

    def ours(self) -> list[Process]:
        """Those that a deploy has started."""
        return [each for each in self.processes() if any(each.begins_with(*ours) for ours in _OURS)]

    def shells(self) -> list[Process]:
        """The shells that ssh has started, oldest first."""
        every = self.processes()
        servers = {each.pid for each in every if each.words[0].startswith("sshd")}
        shells = (each for each in every if each.begins_with("sh", "-s"))
        return sorted((each for each in shells if each.parent in servers), key=lambda p: p.pid)

    def children(self, pid: int) -> list[Process]:
        """The processes that one has started."""
        return [each for each in self.processes() if each.parent == pid]

    def kill(self, process: Process, by: signal.Signals = signal.SIGKILL) -> bool:
        """Ends a process; says whether it was still there."""
        try:
            os.kill(process.pid, by)
        except ProcessLookupError:
            return False
        return True

    def docker_answers(self) -> bool:
        """Whether its engine does."""
        return containers.works_inside(self.node.container, "docker", "info")

    @contextmanager
    def work_directory_in_memory(self) -> Iterator[None]:
        """Its work directory on a file system of its own, whose room can be taken away at once."""
        there, aside = self.workdir, "/run/ktrdr-chaos-workdir"
        self.run(
            f"mkdir -p {aside} && mount -t tmpfs -o size=4g,mode=0755 tmpfs {aside} && "
            f"cp -a {there}/. {aside}/ && mount --move {aside} {there} 2>/dev/null || "
            f"mount --bind {aside} {there}"
        )
        try:
            yield
        finally:
            self.run(
                f"mkdir -p {aside}-kept && cp -a {there}/. {aside}-kept/ && umount -l {there}; "
                f"umount -l {aside} 2>/dev/null; rm -rf {there}/* {there}/.[!.]*; "
                f"cp -a {aside}-kept/. {there}/ && rm -rf {aside} {aside}-kept"
            )

    def take_room(self) -> None:
        """Fills that file system to the last block."""
        # Less than what is used by now is refused: something may just be written.
        self.run(
            "for _ in 1 2 3 4 5 6 7 8 9; do "
            f"size=$(df -k --output=used {self.workdir} | tail -n 1); "
            f"mount -o remount,size=$((size))k {self.workdir} 2>/dev/null && exit; done; exit 1"
        )

    def give_room(self) -> None:
        """Makes room there again."""
        self.run(f"mount -o remount,size=4g {self.workdir}")


def all_hosts() -> dict[str, Host]:
    """The hosts by key."""
    return {node.key: Host(node) for node in NODES}


class Watch:
    """Asks the services of a host, again and again, what version they are.

    Attributes:
        host: Whose.
        now: What each answers now: its tag, or None.
    """

    EVERY_S = 0.25

    def __init__(self, host: Host) -> None:
        self.host = host
        self.now: dict[str, str | None] = dict.fromkeys(host.asked)
        self._last: dict[str, float] = dict.fromkeys(host.asked, time.monotonic())
        self.longest_gap_s = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """Ends it; gives the longest time in which some service did not answer (s)."""
        self._over.set()
        self._thread.join()
        return self.longest_gap_s

    def _watch(self) -> None:
        while not self._over.wait(self.EVERY_S):
            for service, (port, path) in self.host.asked.items():
                tag = _version(self.host.address, port, path)
                now = time.monotonic()
                self.now[service] = tag
                if tag is not None:
                    self._last[service] = now
                self.longest_gap_s = max(self.longest_gap_s, now - self._last[service])


def _version(address: str, port: int, path: str) -> str | None:
    connection = http.client.HTTPConnection(address, port, timeout=2)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        found = json.load(answer)
        if answer.status != http.client.OK:
            return None
        version = found.get("version")
        return str(version["image_tag"] if isinstance(version, dict) else version)
    except (OSError, ValueError, KeyError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def numbers_of_processes() -> list[int]:
    """Those of all processes of this machine, its containers' among them."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _space(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return ""


def _process(pid: int) -> Process | None:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    # A zombie has ended.
    return (
        Process(pid, int(status[1]), tuple(words[:-1])) if words[0] and status[0] != "Z" else None
    )
