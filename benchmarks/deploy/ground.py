"""What deploys are measured on: the lab, with a second image that differs a little."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from benchmarks.deploy import contenders, kit, tools
from benchmarks.deploy.contenders import Contender, Way
from benchmarks.deploy.kit import Kit
from ktrdr.deployment.release import commit_in
from lab import build, containers, demo, homelab, keys, registries
from lab.place import BACKEND_REPOSITORY, NFS_REPOSITORY, NODES, Node
from lab.report import Report

# It looks like a commit's, so that whoever has it need not ask the registry; it names none.
OTHER_TAG: Final = "sha-be0c4a2"
# What a change of our code amounts to in the image.
_CHANGED_BYTES: Final = 2_000_000
_IMAGES: Final = {
    "ktrdr-lab/ktrdr-backend": BACKEND_REPOSITORY,
    "ktrdr-lab/ktrdr-nfs-server": NFS_REPOSITORY,
}
_WIPE: Final = (
    "docker ps --all --quiet | xargs -r docker rm --force --volumes; "
    "docker volume ls --quiet | xargs -r docker volume rm --force; "
    "docker network prune --force; rm -rf /opt/* /opt/.[!.]*"
)


@dataclass
class Ground:
    """Where measurements are made; what one of them does not need is not made.

    Attributes:
        directory: For files of this run.
    """

    directory: Path
    _stack: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def lab(self) -> LabGround:
        """The lab, raised and with the stack on it."""
        tools.ensure()
        homelab.up(Report())
        tools.bring_python()
        found = LabGround(self.directory / "lab")
        self._stack.callback(found.leave)
        found.settle()
        return found

    def close(self) -> None:
        """Leaves everything as it is to be found."""
        self._stack.close()


@contextmanager
def prepared_ground() -> Iterator[Ground]:
    """A place for this run's files."""
    with tempfile.TemporaryDirectory(prefix="ktrdr-bench-") as directory:
        ground = Ground(Path(directory))
        try:
            yield ground
        finally:
            ground.close()


class LabGround:
    """The three hosts, two releases, and all who can bring one to the other."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        env = demo.environment()
        for name in ("DOCKER_HOST", "KTRDR_TOKEN", "NO_COLOR", "FORCE_COLOR", "VIRTUAL_ENV"):
            env.pop(name, None)
        vault = directory / "vault.json"
        kit.write_vault(vault)
        known = directory / "known_hosts"
        known.write_text("".join(_known(node, "127.0.0.1", node.ssh_port) for node in NODES))
        self.tag = env["KTRDR_DEPLOY_TAG"]
        self.way = Way({**env, "KTRDR_LAB_VAULT": str(vault)}, keys.CONFIG, known)
        self.current = kit.make(directory / "current", self.tag)
        self.other = kit.make(directory / "other", OTHER_TAG)
        self.contenders: tuple[Contender, ...] = (
            contenders.plain(),
            contenders.ktrdr(),
            contenders.pyinfra(),
            contenders.ansible(),
        )
        self._directory = directory

    @property
    def tag_can_move(self) -> bool:
        """Whether the checkout differs from its commit, so that its tag names no image for ever."""
        return commit_in(self.tag) is None

    def settle(self) -> None:
        """Has the current release on all hosts."""
        contenders.ktrdr().run(self.current, "deploy", self.way)

    def leave(self) -> None:
        """Puts the current release back, and takes the second one away."""
        self.settle()
        self.forget(self.other)

    def publish_other(self) -> None:
        """Puts images that differ a little from the current ones into the registry."""
        for image, repository in _IMAGES.items():
            context = self._directory / "context" / repository
            context.mkdir(parents=True, exist_ok=True)
            (context / "code").write_bytes(random.Random(1).randbytes(_CHANGED_BYTES))
            (context / "Dockerfile").write_text(f"FROM {image}\nCOPY code /opt/bench\n")
            build.build(f"{image}-bench", context, fingerprint=str(build.label_of(image)))
            registries.push(f"{image}-bench", repository, OTHER_TAG)

    def forget(self, release: Kit) -> None:
        """Removes a release's own images from all hosts, as if it had never been there."""
        names = " ".join(f"ghcr.io/{repository}:{release.tag}" for repository in _IMAGES.values())
        self._everywhere(f"docker image rm {names} >/dev/null 2>&1 || :")

    def wipe(self) -> None:
        """Leaves the hosts without container, volume or configuration; images stay."""
        self._everywhere(_WIPE)

    def containers(self) -> frozenset[str]:
        """The ids of all that runs, on all hosts."""
        return frozenset(" ".join(self._everywhere("docker ps --quiet --no-trunc")).split())

    def versions(self) -> Mapping[str, str]:
        """The tag of our own containers on each host, and what is not healthy."""
        listed = self._everywhere("docker ps --format '{{.Image}} {{.Status}}' --filter name=ktrdr")
        return dict(zip((node.key for node in NODES), listed, strict=True))

    def _everywhere(self, script: str) -> list[str]:
        def on(node: Node) -> str:
            return containers.execute(node.container, "sh", "-c", script, timeout=180)

        with ThreadPoolExecutor(len(NODES)) as pool:
            return list(pool.map(on, NODES))

    @contextmanager
    def counting(self) -> Iterator[Counter]:
        """A second SSH server on each host, which writes down every connection and command."""
        yield from _counting(self._directory / "counting", self.way)


@dataclass(frozen=True)
class Counter:
    """The way to the servers that count."""

    way: Way

    def connections_and_commands(self) -> tuple[int, int]:
        """How many of each there were since the last time."""
        text = "".join(
            containers.execute(node.container, "sh", "-c", f"cat {_LOG}; : >{_LOG}")
            for node in NODES
        )
        return text.count("Accepted publickey"), text.count("Starting session")


_LOG: Final = "/run/bench-sshd.log"
_COUNTING_PORT: Final = 2222


def _counting(directory: Path, way: Way) -> Iterator[Counter]:
    directory.mkdir(exist_ok=True)
    config, known = keys.CONFIG.read_text(), []
    for node in NODES:
        containers.execute(
            *(node.container, "/usr/sbin/sshd", "-E", _LOG, "-p", str(_COUNTING_PORT)),
            *("-o", "LogLevel=VERBOSE", "-o", "PidFile=/run/bench-sshd.pid"),
        )
        address = _address(node)
        config = config.replace(
            f"HostName 127.0.0.1\n    Port {node.ssh_port}",
            f"HostName {address}\n    Port {_COUNTING_PORT}",
        )
        known.append(_known(node, address, _COUNTING_PORT))
    (directory / "config").write_text(config)
    (directory / "known_hosts").write_text("".join(known))
    try:
        yield Counter(Way(way.env, directory / "config", directory / "known_hosts"))
    finally:
        for node in NODES:
            end = f"kill $(cat /run/bench-sshd.pid); rm -f {_LOG}"
            containers.execute(node.container, "sh", "-c", end, check=False)


def _address(node: Node) -> str:
    found = containers.inspect(node.container)
    assert found
    networks = found["NetworkSettings"]["Networks"]
    return str(next(iter(networks.values()))["IPAddress"])


def _known(node: Node, address: str, port: int) -> str:
    public = (keys.directory_of(node) / "host_key.pub").read_text().split()[:2]
    return f"[{address}]:{port} {' '.join(public)}\n"
