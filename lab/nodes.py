"""The hosts: containers with an OpenSSH server, a Docker Engine and Compose of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final

from lab import certificates, containers, keys
from lab.engine import docker
from lab.place import NODE_IMAGE, NODES, SHARED_VOLUME, UID, Node
from lab.report import LabError, Report
from lab.shell import run, wait_until, works

_START_TIMEOUT_S: Final = 90
# Where --privileged is refused, this is what a Docker Engine in a container really needs.
_NEARLY_PRIVILEGED: Final = (
    *("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE"),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("--security-opt", "systempaths=unconfined", "--device-cgroup-rule", "a *:* rwm"),
    *("--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw"),
)
_PRIVILEGED: Final = ("--privileged",)


def ensure(report: Report) -> None:
    """Brings all hosts up, and repairs those that do not answer."""
    with ThreadPoolExecutor(len(NODES)) as pool:
        list(pool.map(lambda node: _ensure(node, report), NODES))
    containers.execute(NODES[0].container, "chown", f"{UID}:{UID}", NODES[0].shared)


def renew(images: Iterable[str]) -> None:
    """Makes hosts that have an older image of a name pull it anew: a name of a version never does.

    Args:
        images: Names in the mirror whose image has changed.
    """
    for name in images:
        for node in NODES:
            if containers.works_inside(node.container, "docker", "image", "inspect", name):
                containers.execute(node.container, "docker", "pull", "--quiet", name, timeout=300)


def is_well(node: Node) -> bool:
    """Whether a host's engine and SSH server answer."""
    return _engine_answers(node) and _ssh_answers(node)


def volumes(node: Node) -> tuple[str, str]:
    """What of a host outlives its container: Docker's own directory, and the work directories."""
    return f"{node.container}-docker", f"{node.container}-opt"


@cache
def privileges() -> tuple[str, ...]:
    """How a container gets what a Docker Engine needs, on this machine."""
    for attempt in (_NEARLY_PRIVILEGED, _PRIVILEGED):
        probe = (docker(), "run", "--rm", *attempt, "--entrypoint", "true", NODE_IMAGE)
        if works(*probe, timeout=60):
            return attempt
    raise LabError("this machine's engine starts no container that could be a host")


def _ensure(node: Node, report: Report) -> None:
    changed = containers.ensure(node.container, NODE_IMAGE, list(_options(node)))
    if not changed and not is_well(node):
        report.say(f"{node.names[0]} does not answer: it is restarted")
        run(docker(), "restart", "--time", "20", node.container, timeout=90)
        changed = True
    if changed:
        what = f"{node.names[0]} is up"
        wait_until(what, lambda: is_well(node), _START_TIMEOUT_S)


def _options(node: Node) -> Iterator[str]:
    yield from privileges()
    yield from ("--hostname", node.key.lower(), "--stop-timeout", "60")
    # As on any Debian: what is there is gone after a restart, which is a reboot here.
    yield from ("--tmpfs", "/run:rw,exec,nosuid,mode=755")
    for name in node.names:
        yield from ("--network-alias", name)
    data, work = volumes(node)
    yield from ("--volume", f"{data}:/var/lib/docker", "--volume", f"{work}:/opt")
    yield from ("--volume", f"{SHARED_VOLUME}:{node.shared}")
    yield from ("--volume", f"{keys.directory_of(node)}:/etc/ssh/lab:ro")
    yield from ("--volume", f"{certificates.AUTHORITY}:/etc/docker/certs.d/ghcr.io/ca.crt:ro")
    yield from ("--publish", f"127.0.0.1:{node.ssh_port}:22")
    for here, there in node.ports:
        yield from ("--publish", f"127.0.0.1:{here}:{there}")
    if node.relay:
        yield from ("--env", f"RELAY={node.relay}")


def _engine_answers(node: Node) -> bool:
    return containers.works_inside(node.container, "docker", "info")


def _ssh_answers(node: Node) -> bool:
    return works("ssh", "-F", str(keys.CONFIG), "-o", "BatchMode=yes", node.names[0], "true")
