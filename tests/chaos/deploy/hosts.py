"""Hosts of the lab, inspected without the code under test."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ktrdr.deployment.hosts.history import RECORDS
from lab import nodes
from lab.config import NODES, Node
from lab.shell import wait_until

# Ports of the workers' health checks.
_WORKERS = {"backtest-worker-1": 5003, "training-worker-1": 5005}
_CORE = ("db", "backend", "prometheus", "grafana", "jaeger")
_LIST_CONTAINERS = (
    'docker ps --all --quiet | xargs -r docker inspect --format \'{"service":'
    '{{json (index .Config.Labels "com.docker.compose.service")}},"image":{{json .Config.Image}},'
    '"name":{{json .Name}},"status":{{json .State.Status}},'
    '"health":{{if .State.Health}}{{json .State.Health.Status}}{{else}}""{{end}}}\''
)
# Prints those of the given services with a container that does not see the mark of the share.
_LIST_WITHOUT_SHARE = """
for service; do
    for id in $(docker ps --quiet --filter "label=com.docker.compose.service=$service"); do
        docker exec "$id" sh -c 'test -e "$SHARED_MOUNT_PATH/.ktrdr-share"' || echo "$service"
    done
done
"""
_BOOT_TIMEOUT_S = 120.0
# Processes that a deploy starts on a host, by the beginning of their command lines.
_DEPLOY_COMMANDS = (
    ("sh", "-s"),
    ("docker", "compose"),
    ("docker-compose",),
    ("setsid",),
    ("sh", "-c", "# Start the services of a project again"),
    # The supervisor, and what it runs.
    ("sh", "/opt/ktrdr-"),
    ("sh", ".ktrdr/deploy/program.sh"),
    ("sleep", "5"),
    ("flock",),
    ("timeout", "-s", "KILL"),
    ("tar",),
)


@dataclass(frozen=True)
class Process:
    """Process of a host, with its id on this machine."""

    pid: int
    parent: int
    words: tuple[str, ...]

    def begins_with(self, *words: str) -> bool:
        """Return True if its command line begins with these words, without directories."""
        own = (self.words[0].rpartition("/")[2], *self.words[1:])
        pairs = zip(own, words, strict=False)
        return len(own) >= len(words) and all(word.startswith(prefix) for word, prefix in pairs)


@dataclass(frozen=True)
class Host:
    """Host of the lab.

    Attributes:
        node: Description of its container.
    """

    node: Node

    @property
    def name(self) -> str:
        """Name of the host in deploys."""
        return "core" if self.node.key == "core" else f"workers {self.node.key}"

    @property
    def workdir(self) -> str:
        """Work directory."""
        key = self.node.key.lower()
        return "/opt/ktrdr-core" if key == "core" else f"/opt/ktrdr-workers-{key}"

    @property
    def services(self) -> Sequence[str]:
        """Services that run on it."""
        return _CORE if self.node.key == "core" else tuple(_WORKERS)

    @property
    def versioned_services(self) -> dict[str, tuple[int, str]]:
        """Port and path of each service that reports its version."""
        if self.node.key == "core":
            return {"backend": (8000, "/api/v1/health")}
        return {name: (port, "/health") for name, port in _WORKERS.items()}

    @property
    def address(self) -> str:
        """Address at which this machine reaches its ports."""
        return self.node.address

    @cached_property
    def root(self) -> Path:
        """Root of its file system; another one after each boot."""
        return nodes.root_of(self.node)

    @property
    def records(self) -> Path:
        """Directory with the records of deploys."""
        return self.root / self.workdir.lstrip("/") / RECORDS

    def run(self, script: str, *, check: bool = True, timeout: float = 60) -> str:
        """Run a shell script on the host; return its output."""
        command = ("sh", "-c", script)
        return nodes.execute(self.node, *command, check=check, timeout=timeout)

    def write(self, path: str, text: str, *, append: bool = False) -> None:
        """Write a file on the host, as its own root."""
        sign = ">>" if append else ">"
        nodes.execute(self.node, "sh", "-c", f'cat {sign}"$1"', "-", path, stdin=text.encode())

    def containers(self) -> list[dict[str, str]]:
        """Return all containers, or none while Docker does not answer."""
        lines = self.run(_LIST_CONTAINERS, check=False).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def tags(self) -> set[str]:
        """Return the image tags of KTRDR's containers."""
        return {
            each["image"].rpartition(":")[2]
            for each in self.containers()
            if each["service"] in self.versioned_services
        }

    def history(self) -> list[str]:
        """Return the lines of its history."""
        with suppress(FileNotFoundError):
            return (self.records / "history.jsonl").read_text(errors="replace").splitlines()
        return []

    def lock_is_free(self) -> bool:
        """Return True if no deploy holds its lock."""
        try:
            with (self.records / "lock").open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return True
        except BlockingIOError:
            return False
        return True

    def processes(self) -> list[Process]:
        """Return its processes, without those inside its containers."""
        namespace = _pid_namespace(int(self.root.parent.name))
        own = (_process(pid) for pid in process_ids() if _pid_namespace(pid) == namespace)
        return [process for process in own if process]

    def deploy_processes(self) -> list[Process]:
        """Return the processes that a deploy has started."""
        return [
            process
            for process in self.processes()
            if any(process.begins_with(*command) for command in _DEPLOY_COMMANDS)
        ]

    def shells(self) -> list[Process]:
        """Return the shells that sshd has started, oldest first."""
        processes = self.processes()
        servers = {process.pid for process in processes if process.words[0].startswith("sshd")}
        shells = (process for process in processes if process.begins_with("sh", "-s"))
        return sorted((shell for shell in shells if shell.parent in servers), key=lambda p: p.pid)

    def children(self, pid: int) -> list[Process]:
        """Return the child processes of a process."""
        return [process for process in self.processes() if process.parent == pid]

    def kill(self, process: Process, by: signal.Signals = signal.SIGKILL) -> bool:
        """Send a signal to a process; return False if it does not exist."""
        try:
            os.kill(process.pid, by)
        except ProcessLookupError:
            return False
        return True

    def docker_answers(self) -> bool:
        """Return True if its Docker engine answers."""
        return nodes.succeeds_inside(self.node, "docker", "info")

    def boot(self) -> None:
        """Start the host if it is off, and wait until it answers."""
        if nodes.state(self.node) == "STOPPED":
            nodes.start(self.node)
        self.__dict__.pop("root", None)
        wait_until(f"{self.name} is up", lambda: nodes.is_healthy(self.node), _BOOT_TIMEOUT_S)

    @contextmanager
    def without_share(self) -> Iterator[None]:
        """Unmount the shared directory, and mount it again.

        Containers keep what they have mounted: those that start meanwhile see an empty directory,
        and the others see the shared one.
        """
        shared, kept = self.node.shared, "/run/ktrdr-chaos-share"
        self.run(f"mkdir -p {kept} && mount --bind {shared} {kept} && umount --lazy {shared}")
        try:
            yield
        finally:
            self.run(f"mount --bind {kept} {shared} && umount --lazy {kept} && rmdir {kept}")

    def services_without_share(self) -> list[str]:
        """Return the running services that should see the shared directory, and do not."""
        command = ("sh", "-c", _LIST_WITHOUT_SHARE, "-", *self.versioned_services)
        return nodes.execute(self.node, *command, check=False).split()

    @contextmanager
    def work_directory_in_memory(self) -> Iterator[None]:
        """Move the work directory to a separate file system whose size can be reduced."""
        workdir, mount = self.workdir, "/run/ktrdr-chaos-workdir"
        self.run(
            f"mkdir -p {mount} && mount -t tmpfs -o size=4g,mode=0755 tmpfs {mount} && "
            f"cp -a {workdir}/. {mount}/ && mount --move {mount} {workdir} 2>/dev/null || "
            f"mount --bind {mount} {workdir}"
        )
        try:
            yield
        finally:
            self.run(
                f"mkdir -p {mount}-copy && cp -a {workdir}/. {mount}-copy/ && umount -l {workdir}; "
                f"umount -l {mount} 2>/dev/null; rm -rf {workdir}/* {workdir}/.[!.]*; "
                f"cp -a {mount}-copy/. {workdir}/ && rm -rf {mount} {mount}-copy"
            )

    def fill_disk(self) -> None:
        """Reduce that file system to its used size, so that it is full."""
        # The kernel refuses a size below the used one, which may grow meanwhile.
        self.run(
            "for _ in 1 2 3 4 5 6 7 8 9; do "
            f"size=$(df -k --output=used {self.workdir} | tail -n 1); "
            f"mount -o remount,size=$((size))k {self.workdir} 2>/dev/null && exit; done; exit 1"
        )

    def free_disk(self) -> None:
        """Restore the size of that file system."""
        self.run(f"mount -o remount,size=4g {self.workdir}")


def stopped_services(containers: Sequence[Mapping[str, str]], services: Iterable[str]) -> list[str]:
    """Return the services that nothing but a deploy will start.

    Their containers were stopped on purpose, never started, or removed. Empty if any other service
    is not healthy.

    Args:
        containers: All containers of a host.
        services: Services that should run there.
    """
    healthy = {
        container["service"]
        for container in containers
        if container["status"] == "running" and container["health"] in ("", "healthy")
    }
    others = [service for service in services if service not in healthy]
    states = {container["status"] for container in containers if container["service"] in others}
    return others if states <= {"created", "exited"} else []


def all_hosts() -> dict[str, Host]:
    """Return the hosts by key."""
    return {node.key: Host(node) for node in NODES}


class VersionMonitor:
    """Monitor that polls the versions of a host's services.

    Attributes:
        host: Host of the services.
        versions: Current tag of each service, or None if it does not answer or has a problem.
    """

    INTERVAL_S = 0.25

    def __init__(self, host: Host) -> None:
        self.host = host
        self.versions: dict[str, str | None] = dict.fromkeys(host.versioned_services)
        self._last: dict[str, float] = dict.fromkeys(host.versioned_services, time.monotonic())
        self.longest_gap_s = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """Stop; return the longest time without an answer of a service (s)."""
        self._stopped.set()
        self._thread.join()
        return self.longest_gap_s

    def _poll(self) -> None:
        while not self._stopped.wait(self.INTERVAL_S):
            for service, (port, path) in self.host.versioned_services.items():
                tag = _version(self.host.address, port, path)
                now = time.monotonic()
                self.versions[service] = tag
                if tag is not None:
                    self._last[service] = now
                self.longest_gap_s = max(self.longest_gap_s, now - self._last[service])


def _version(address: str, port: int, path: str) -> str | None:
    connection = http.client.HTTPConnection(address, port, timeout=2)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        document = json.load(response)
        # A service names a problem if it cannot work, such as without the shared directory.
        if response.status != http.client.OK or document.get("problem"):
            return None
        version = document.get("version")
        return str(version["image_tag"] if isinstance(version, dict) else version)
    except (OSError, ValueError, KeyError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def process_ids() -> list[int]:
    """Return the ids of all processes of this machine, including its containers."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _pid_namespace(pid: int) -> str:
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
    # Zombies have ended.
    return (
        Process(pid, int(status[1]), tuple(words[:-1])) if words[0] and status[0] != "Z" else None
    )
