"""The hosts: containers, each with its own OpenSSH server, Docker Engine and Compose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final

from lab import certificates, containers, ssh_keys
from lab.config import NODE_IMAGE, NODES, SHARED_VOLUME, UID, Node
from lab.engine import docker
from lab.progress import LabError, Progress
from lab.shell import run, succeeds, wait_until

_START_TIMEOUT_S: Final = 90
# The permissions that a Docker Engine in a container needs, for machines that refuse --privileged.
_NEARLY_PRIVILEGED: Final = (
    *("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE"),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("--security-opt", "systempaths=unconfined", "--device-cgroup-rule", "a *:* rwm"),
    *("--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw"),
)
_PRIVILEGED: Final = ("--privileged",)


def ensure_running(progress: Progress) -> None:
    """Start all hosts, and restart hosts that do not answer."""
    with ThreadPoolExecutor(len(NODES)) as pool:
        list(pool.map(lambda node: _ensure_node(node, progress), NODES))
    containers.execute(NODES[0].container, "chown", f"{UID}:{UID}", NODES[0].shared)


def pull_changed_images(images: Iterable[str]) -> None:
    """Pull changed images on hosts that have an older one; Docker itself never pulls them again.

    Args:
        images: Names of images that have changed in the mirror.
    """
    for name in images:
        for node in NODES:
            if containers.succeeds_inside(node.container, "docker", "image", "inspect", name):
                containers.execute(node.container, "docker", "pull", "--quiet", name, timeout=300)


def is_healthy(node: Node) -> bool:
    """Return True if the host's engine and SSH server answer."""
    return _engine_answers(node) and _ssh_answers(node)


def volumes(node: Node) -> tuple[str, str]:
    """Return the volumes of a host: Docker's data, and the work directories."""
    return f"{node.container}-docker", f"{node.container}-opt"


@cache
def privilege_options() -> tuple[str, ...]:
    """Return the container options with which a Docker Engine can run, on this machine."""
    for options in (_NEARLY_PRIVILEGED, _PRIVILEGED):
        probe = (docker(), "run", "--rm", *options, "--entrypoint", "true", NODE_IMAGE)
        if succeeds(*probe, timeout=60):
            return options
    raise LabError("the Docker Engine of this machine starts no privileged container")


def _ensure_node(node: Node, progress: Progress) -> None:
    changed = containers.ensure_running(node.container, NODE_IMAGE, list(_options(node)))
    if not changed and not is_healthy(node):
        progress.write(f"{node.names[0]} does not answer; restarting it")
        run(docker(), "restart", "--time", "20", node.container, timeout=90)
        changed = True
    if changed:
        wait_until(f"{node.names[0]} is up", lambda: is_healthy(node), _START_TIMEOUT_S)


def _options(node: Node) -> Iterator[str]:
    yield from privilege_options()
    yield from ("--hostname", node.key.lower(), "--stop-timeout", "60")
    # As on any Debian: empty after a reboot, which is a restart here.
    yield from ("--tmpfs", "/run:rw,exec,nosuid,mode=755")
    for name in node.names:
        yield from ("--network-alias", name)
    docker_data, workdirs = volumes(node)
    yield from ("--volume", f"{docker_data}:/var/lib/docker", "--volume", f"{workdirs}:/opt")
    yield from ("--volume", f"{SHARED_VOLUME}:{node.shared}")
    yield from ("--volume", f"{ssh_keys.directory_of(node)}:/etc/ssh/lab:ro")
    yield from ("--volume", f"{certificates.AUTHORITY}:/etc/docker/certs.d/ghcr.io/ca.crt:ro")
    yield from ("--publish", f"127.0.0.1:{node.ssh_port}:22")
    for local_port, host_port in node.ports:
        yield from ("--publish", f"127.0.0.1:{local_port}:{host_port}")
    if node.relay:
        yield from ("--env", f"RELAY={node.relay}")


def _engine_answers(node: Node) -> bool:
    return containers.succeeds_inside(node.container, "docker", "info")


def _ssh_answers(node: Node) -> bool:
    return succeeds("ssh", "-F", str(ssh_keys.CONFIG), "-o", "BatchMode=yes", node.names[0], "true")
