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

from benchmarks.deploy import contenders, kit, servers, tools
from benchmarks.deploy.contenders import Contender, Way
from benchmarks.deploy.kit import Kit
from benchmarks.deploy.servers import Servers
from ktrdr.deployment.releases.release import commit_in
from lab import build, containers, demo, lifecycle, registries
from lab.config import BACKEND_REPOSITORY, NFS_REPOSITORY, NODES, Node
from lab.progress import Progress

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
        lifecycle.up(Progress())
        tools.bring_python()
        directory = self.directory / "lab"
        directory.mkdir()
        found = LabGround(directory, self._stack.enter_context(servers.running(directory)))
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

    def __init__(self, directory: Path, servers: Servers) -> None:
        env = demo.lab_environment()
        for name in ("DOCKER_HOST", "KTRDR_TOKEN", "NO_COLOR", "FORCE_COLOR", "VIRTUAL_ENV"):
            env.pop(name, None)
        vault = directory / "vault.json"
        kit.write_vault(vault)
        self.tag = env["KTRDR_DEPLOY_TAG"]
        self.servers = servers
        env["KTRDR_LAB_VAULT"] = str(vault)
        self.way = Way(env, servers.config, servers.known_hosts)
        self.current = kit.make(directory / "current", self.tag)
        self.other = kit.make(directory / "other", OTHER_TAG)
        self.contenders: tuple[Contender, ...] = (
            contenders.plain(),
            contenders.ktrdr(),
            contenders.pyinfra(),
            contenders.ansible(),
        )
        self.hasty = contenders.plain_at_once()
        self.directory = directory

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
            context = self.directory / "context" / repository
            context.mkdir(parents=True, exist_ok=True)
            (context / "code").write_bytes(random.Random(1).randbytes(_CHANGED_BYTES))
            (context / "Dockerfile").write_text(f"FROM {image}\nCOPY code /opt/bench\n")
            build.build_image(f"{image}-bench", context, fingerprint=str(build.image_label(image)))
            registries.push_image(f"{image}-bench", repository, OTHER_TAG)

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
