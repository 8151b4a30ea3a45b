"""Host of the lab to which a test deploys small stacks, with images of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy.comparison import Action, Comparison
from ktrdr.deployment.deploy.events import Event, Warned
from ktrdr.deployment.deploy.host_deployment import HostDeployment
from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.deploy.plan import Plan, make_plan
from ktrdr.deployment.deploy.result import HostResult
from ktrdr.deployment.diff.changes import HostDiff
from ktrdr.deployment.diff.query import Differ
from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.homelab.inventory import Inventory, add_defaults
from ktrdr.deployment.hosts.history import DeployKind, HistoryEntry, parse_history
from ktrdr.deployment.hosts.host import DeployId
from ktrdr.deployment.hosts.lock import HostLock
from ktrdr.deployment.releases.checkout import Checkout
from ktrdr.deployment.releases.release import Release
from ktrdr.deployment.scripts.script import SENTINEL
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.deployment.status import HostStatus, collect_status
from ktrdr.schemas import Operation, Worker
from ktrdr.secret import Secret
from tests.e2e.oci_registry import OciRegistry

TAG = "sha-abc1234"


class _NoWorkers:
    def set_credentials(self, fields: Mapping[str, Secret]) -> None: ...
    def drain(self, node: str) -> None: ...
    def undrain(self, node: str) -> None: ...
    def workers(self) -> Sequence[Worker]:
        return ()

    def operations(self, worker_id: str) -> Sequence[Operation]:
        return ()


@dataclass
class Deploy:
    """Deploy to the host.

    Attributes:
        deployment: The deploy.
        comparison: What it found to change.
        events: Its events so far.
        result: Its result.
    """

    deployment: HostDeployment
    comparison: Comparison
    events: list[Event]
    result: HostResult | None = None

    def planned(self, action: Action) -> set[str]:
        """Return the services to which an action was planned."""
        return {each.service for each in self.comparison.services if each.action is action}

    @property
    def warnings(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, Warned)]


@dataclass
class DockerHost:
    """Host of the lab.

    Attributes:
        address: Its address.
        transport: Connection to it.
        registry: Registry that it pulls from.
        number: Number of deploys so far.
    """

    address: str
    transport: SshTransport
    registry: OciRegistry
    number: int = 0
    product: Homelab = field(init=False)

    def __post_init__(self) -> None:
        core = {
            "host": self.address,
            "workdir": "/opt/image-test",
            "shared_directory": "/srv/image-test",
            "nfs": "external",
        }
        values = {"domain": "lab.test", "core": core, "workers": {"B": None}}
        self.product = Homelab(Inventory.model_validate(add_defaults(values)))

    def run(self, script: str) -> str:
        """Run lines of shell, which must succeed; return what they print."""
        text = Secret(f"set -eu\n{{ {script}\n}} </dev/null\necho {SENTINEL}\n")
        result = self.transport.run(self.address, text, timeout_s=120)
        assert result.exit_code == 0, result.stderr
        return result.stdout.removesuffix(f"{SENTINEL}\n")

    def clean(self) -> None:
        """Remove all containers, images and files of former tests."""
        self.run(
            "docker ps --all --quiet | xargs -r docker rm --force --volumes\n"
            "for image in $(docker image ls --all --quiet --no-trunc | sort -u); do\n"
            "docker image rm --force $image >/dev/null 2>&1 || :; done\n"
            "rm -rf /opt/image-test\n"
            "install -d -o 10001 -g 10001 /srv/image-test /srv/image-test/data"
        )

    def plan(self, images: Mapping[str, str], *, revision: int = 0, **arguments: Any) -> Plan:
        """Plan a deploy of services, each with an image; revisions are different releases."""
        self.number += 1
        services: dict[str, Any] = {
            name: {"image": image, "stop_signal": "KILL"} for name, image in images.items()
        }
        # Not started, as with `core.nfs: external`.
        services["nfs-server"] = {"image": "one:1", "profiles": ["nfs"]}
        files = {
            "docker-compose.core.yml": json.dumps({"services": services}).encode(),
            ".env.core": f"REVISION={revision}\n".encode(),
        }
        release = Release(TAG, "abc1234" + "0" * 33, files)
        deploy_id = DeployId(f"deploy-{self.number}", "ada@laptop", Clock().now())
        options = arguments.pop("options", DeployOptions())
        return make_plan(
            self.product, self.product.hosts[0], release, deploy_id, options, **arguments
        )

    def deploy(self, images: Mapping[str, str], **arguments: Any) -> Deploy:
        """Deploy services, each with an image, and fail if that does not succeed."""
        deploy = self.prepare(images, **arguments)
        deploy.result = deploy.deployment.apply()
        assert deploy.result.error is None, deploy.result.error
        return deploy

    def prepare(self, images: Mapping[str, str], **arguments: Any) -> Deploy:
        plan = self.plan(images, **arguments)
        names = (*plan.config.secrets, *plan.config.apply_secrets)
        values = {name: Secret("x" * 40) for name in names} | {"DOCKER_AUTH_CONFIG": Secret("{}")}
        events: list[Event] = []
        deployment = HostDeployment(plan, values, self.transport, _NoWorkers(), events.append)
        deployment.prepare()
        assert deployment.comparison
        return Deploy(deployment, deployment.comparison, events)

    def roll_back(self, to: HistoryEntry, images: Mapping[str, str]) -> Deploy:
        return self.deploy(images, kind=DeployKind.ROLLBACK, redeploy_of=to)

    def diff(self, images: Mapping[str, str]) -> HostDiff:
        plan = self.plan(images)
        (diff,) = Differ(Checkout.find(Path.cwd()), self.transport, "test").diff_hosts(
            {plan.host: plan}
        )
        assert diff.error is None, diff.error
        return diff

    def status(self) -> HostStatus:
        (status,) = collect_status(self.product.hosts[:1], self.transport)
        assert status.error is None, status.error
        return status

    def history(self) -> tuple[HistoryEntry, ...]:
        return parse_history(self.run("cat /opt/image-test/.ktrdr/history.jsonl").splitlines())

    def containers(self) -> dict[str, str]:
        """Return the id of each service's container."""
        label = '{{.Label "com.docker.compose.service"}} {{.ID}}'
        lines = self.run(f"docker ps --all --no-trunc --format '{label}'").splitlines()
        return dict(line.split() for line in lines)

    @contextmanager
    def locked(self) -> Iterator[str]:
        """Hold the host's lock within the block, and return the note of its owner."""
        plan = self.plan({"a": "a"})
        lock = HostLock(self.transport, plan.host, plan.lock_owner)
        lock.acquire(0, threading.Event())
        try:
            yield plan.lock_owner.to_json()
        finally:
            lock.release()
