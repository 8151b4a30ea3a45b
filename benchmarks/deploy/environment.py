"""Environment of the deploy benchmarks: the lab, with a second image that differs slightly."""

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

from benchmarks.deploy import contenders, inputs, ssh_servers, tools
from benchmarks.deploy.contenders import Contender, HostAccess
from benchmarks.deploy.inputs import DeployInputs
from benchmarks.deploy.ssh_servers import SshServers
from ktrdr.deployment.releases.release import commit_in_tag
from lab import build, demo, lifecycle, nodes, registries
from lab.config import BACKEND_REPOSITORY, NFS_REPOSITORY, NODES, Node
from lab.progress import Progress

# Looks like the tag of a commit, so that hosts that have it need not query the registry. No such
# commit exists.
OTHER_TAG: Final = "sha-be0c4a2"
# Size of the layer that a change of KTRDR's code produces.
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
class BenchmarkEnvironment:
    """Environment of the measurements, created on demand.

    Attributes:
        directory: Directory for files of this run.
    """

    directory: Path
    _stack: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def lab(self) -> LabEnvironment:
        """Start the lab, and deploy the stack."""
        tools.install_tools()
        lifecycle.up(Progress())
        tools.install_python_on_hosts()
        directory = self.directory / "lab"
        directory.mkdir()
        lab = LabEnvironment(
            directory, self._stack.enter_context(ssh_servers.run_servers(directory))
        )
        self._stack.callback(lab.restore)
        lab.deploy_current()
        return lab

    def close(self) -> None:
        """Restore the lab."""
        self._stack.close()


@contextmanager
def benchmark_environment() -> Iterator[BenchmarkEnvironment]:
    """Provide an environment in a temporary directory."""
    with tempfile.TemporaryDirectory(prefix="ktrdr-bench-") as directory:
        env = BenchmarkEnvironment(Path(directory))
        try:
            yield env
        finally:
            env.close()


class LabEnvironment:
    """The three hosts, two releases, and the contenders."""

    def __init__(self, directory: Path, servers: SshServers) -> None:
        env = demo.lab_environment()
        for name in ("DOCKER_HOST", "KTRDR_TOKEN", "NO_COLOR", "FORCE_COLOR", "VIRTUAL_ENV"):
            env.pop(name, None)
        vault = directory / "vault.json"
        inputs.write_vault(vault)
        self.tag = env["KTRDR_DEPLOY_TAG"]
        self.servers = servers
        env["KTRDR_LAB_VAULT"] = str(vault)
        self.access = HostAccess(env, servers.config, servers.known_hosts)
        self.current = inputs.write_inputs(directory / "current", self.tag)
        self.other = inputs.write_inputs(directory / "other", OTHER_TAG)
        self.contenders: tuple[Contender, ...] = (
            contenders.plain(),
            contenders.ktrdr(),
            contenders.pyinfra(),
            contenders.ansible(),
        )
        self.plain_at_once = contenders.plain_at_once()
        self.directory = directory

    @property
    def tag_can_move(self) -> bool:
        """True if the working tree has changes, so that its tag may name several images."""
        return commit_in_tag(self.tag) is None

    def deploy_current(self) -> None:
        """Deploy the current release to all hosts."""
        contenders.ktrdr().run(self.current, "deploy", self.access)

    def restore(self) -> None:
        """Deploy the current release, and remove the second one."""
        self.deploy_current()
        self.remove_images(self.other)

    def publish_other(self) -> None:
        """Push images that differ slightly from the current ones to the registry."""
        for image, repository in _IMAGES.items():
            context = self.directory / "context" / repository
            context.mkdir(parents=True, exist_ok=True)
            (context / "code").write_bytes(random.Random(1).randbytes(_CHANGED_BYTES))
            (context / "Dockerfile").write_text(f"FROM {image}\nCOPY code /opt/bench\n")
            build.build_image(f"{image}-bench", context, fingerprint=str(build.image_label(image)))
            registries.push_image(f"{image}-bench", repository, OTHER_TAG)

    def remove_images(self, release: DeployInputs) -> None:
        """Remove the images of a release from all hosts."""
        names = " ".join(f"ghcr.io/{repository}:{release.tag}" for repository in _IMAGES.values())
        self._run_on_all_hosts(f"docker image rm {names} >/dev/null 2>&1 || :")

    def wipe(self) -> None:
        """Remove all containers, volumes and configuration from the hosts; images stay."""
        self._run_on_all_hosts(_WIPE)

    def containers(self) -> frozenset[str]:
        """Return the ids of all running containers on all hosts."""
        return frozenset(" ".join(self._run_on_all_hosts("docker ps --quiet --no-trunc")).split())

    def versions(self) -> Mapping[str, str]:
        """Return image and status of KTRDR's containers on each host."""
        listed = self._run_on_all_hosts(
            "docker ps --format '{{.Image}} {{.Status}}' --filter name=ktrdr"
        )
        return dict(zip((node.key for node in NODES), listed, strict=True))

    def _run_on_all_hosts(self, script: str) -> list[str]:
        def run_on(node: Node) -> str:
            return nodes.execute(node, "sh", "-c", script, timeout=180)

        with ThreadPoolExecutor(len(NODES)) as pool:
            return list(pool.map(run_on, NODES))
