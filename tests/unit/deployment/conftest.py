"""Fixtures: a small homelab, a release for it, and simulated hosts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.deploy.plan import Plan, make_plan
from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.homelab.hosts import select_hosts
from ktrdr.deployment.homelab.inventory import Inventory, add_defaults
from ktrdr.deployment.hosts.containers import Container
from ktrdr.deployment.hosts.health import ExpectedService
from ktrdr.deployment.hosts.host import DeployId
from ktrdr.deployment.releases.release import Release

TAG = "sha-abc1234"
DEPLOY_ID = "20261123-120000-ab12"
COMMIT = "abc1234" + "0" * 33
OPTIONS = {option.name for option in fields(DeployOptions)}
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

CORE = """
services:
  db: {image: "timescale/timescaledb:2"}
  backend:
    image: ${IMAGE_NAME:-x}:${IMAGE_TAG:-y}
    depends_on: {db: {condition: service_healthy}}
  prometheus: {image: "prom/prometheus:v3"}
"""
WORKERS = """
services:
  backtest-worker-1:
    image: &image ${IMAGE_NAME:-x}:${IMAGE_TAG:-y}
    environment: {WORKER_PORT: "5003"}
  training-worker-1: {image: *image, environment: {WORKER_PORT: "5005"}}
  backtest-worker-2: {image: *image, profiles: [scale-2], environment: {WORKER_PORT: "5004"}}
  training-worker-2: {image: *image, profiles: [scale-2], environment: {WORKER_PORT: "5006"}}
  backtest-worker-3: {image: *image, profiles: [scale-3], environment: {WORKER_PORT: "5007"}}
"""


@pytest.fixture
def inventory() -> Inventory:
    return Inventory.model_validate(
        add_defaults({"domain": "lab.test", "workers": {"B": None, "C": {"scale": 2}}})
    )


@pytest.fixture
def release() -> Release:
    return Release(
        TAG,
        COMMIT,
        {
            "docker-compose.core.yml": CORE.encode(),
            "docker-compose.workers.yml": WORKERS.encode(),
            ".env.core": b"# settings\nLOG_LEVEL=INFO\n",
            ".env.workers": b"LOG_LEVEL=INFO\n",
            "monitoring/prometheus.yml": b"scrape_configs: []\n",
            "monitoring/grafana/datasources.yml": b"datasources: []\n",
        },
    )


@pytest.fixture
def external(inventory) -> Homelab:
    """Return a homelab whose shared directory is served by none of its hosts."""
    core = inventory.core.model_copy(update={"nfs": "external"})
    return Homelab(inventory.model_copy(update={"core": core}))


@pytest.fixture
def release_with_nfs(release: Release) -> Release:
    """Return a release whose core has an NFS server."""
    compose = CORE + '  nfs-server: {image: "nfs:1", profiles: [nfs]}\n'
    return replace(release, files={**release.files, "docker-compose.core.yml": compose.encode()})


@pytest.fixture
def product(inventory) -> Homelab:
    return Homelab(inventory)


@pytest.fixture
def deploy_id() -> DeployId:
    return DeployId(DEPLOY_ID, "ada@laptop", NOW)


@pytest.fixture
def planned(product, release, deploy_id) -> Callable[..., Plan]:
    """Plan a deploy to the core or a node, with options and arguments of `make_plan` by name."""

    def plan(target: str = "core", node: str = "B", **arguments: Any) -> Plan:
        words = [target, node] if target == "workers" else [target]
        (host,) = select_hosts(product.inventory, words)
        options = {name: arguments.pop(name) for name in OPTIONS & arguments.keys()}
        return make_plan(product, host, release, deploy_id, DeployOptions(**options), **arguments)

    return plan


@dataclass
class SimulatedHost:
    """Outputs of a host with the services of a plan; tests change the attributes.

    Attributes:
        plan: The plan.
        containers: Containers as Docker describes them, by service.
        answers: Health reports of services, by name.
        files: Configuration files that the fetch step reports as changed.
        history: Lines of the host's history.
        facts: Facts that the check reports.
    """

    plan: Plan
    containers: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    history: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(
        default_factory=lambda: {
            "clock": str(int(NOW.timestamp())),
            "user": "deploy",
            "docker": "28.1.0",
            "docker_free_kb": "90000000",
            "compose": "2.40.1",
            "workdir": "writable",
            "workdir_free_kb": "90000000",
            "shared": "writable",
        }
    )

    def run_all(self) -> SimulatedHost:
        """Run all services, healthy and in the plan's version; register the workers."""
        for service in self.plan.expected:
            self.run(service)
        return self

    def run(self, service: ExpectedService, **changes: Any) -> None:
        """Run one service, healthy and in the plan's version."""
        name = service.name
        self.containers[name] = {
            "id": f"id-of-{name}",
            "image": f"sha256:{service.image}",
            "name": service.image,
            "labels": {
                "com.docker.compose.service": name,
                "com.docker.compose.config-hash": f"hash-of-{name}",
                "com.docker.compose.image": f"sha256:{service.image}",
            },
            "state": {
                "Status": "running",
                "StartedAt": "2026-11-23T11:00:00.123456789Z",
                "ExitCode": 0,
                "Health": {"Status": "healthy", "Log": []},
            },
            "restarts": 0,
            **changes,
        }
        tag = self.plan.release.tag
        if service.worker_url:
            self.answers[name] = {"version": tag, "registered": True, "current_operation_id": None}
        elif service.reports_version:
            self.answers[name] = {"status": "ok", "version": {"image_tag": tag}, "database": "ok"}

    def check_output(self) -> str:
        return "".join(f"{name}={value}\n" for name, value in self.facts.items())

    def fetch_output(self) -> str:
        images = [
            f"{image} - "
            + json.dumps({"id": f"sha256:{image}", "digests": [_digest(image)], "descriptor": None})
            for image in {service.image for service in self.plan.expected}
        ]
        hashes = [f"{service.name} hash-of-{service.name}" for service in self.plan.expected]
        parts = {
            "stage": [], "pull": [], "hashes": hashes, "images": images, "files": self.files,
            "history": self.history, "clock": [str(int(NOW.timestamp()))],
            "containers": self._containers(), "answers": self._answers(),
        }  # fmt: skip
        return _sections(parts)

    def verify_output(self) -> str:
        clock = [str(int(NOW.timestamp()))]
        return _sections(
            {"clock": clock, "containers": self._containers(), "answers": self._answers()}
        )

    def _containers(self) -> list[str]:
        return [json.dumps(entry) for entry in self.containers.values()]

    def _answers(self) -> list[str]:
        return [f"{name} {json.dumps(answer)}" for name, answer in self.answers.items()]


def running_container(service: str, **changes: Any) -> Container:
    """Return the container of a service that has been healthy for an hour."""
    return Container(
        **{
            "service": service,
            "id": f"id-of-{service}",
            "image": "image:1",
            "image_id": "sha256:1",
            "config_hash": f"hash-of-{service}",
            "status": "running",
            "health": "healthy",
            "started_at": NOW - timedelta(hours=1),
            "exit_code": 0,
            "restarts": 0,
            **changes,
        }
    )


def _digest(image: str) -> str:
    return f"{image.rpartition(':')[0]}@sha256:digest-of-{image}"


def _sections(parts: dict[str, list[str]]) -> str:
    return "".join(
        f"== {title}\n" + "".join(f"{x}\n" for x in lines) for title, lines in parts.items()
    )


@pytest.fixture
def clock() -> Clock:
    """Return a clock that advances only in `sleep`."""
    passed = [0.0]

    def sleep(seconds: float) -> None:
        passed[0] += seconds

    return Clock(
        now=lambda: NOW + timedelta(seconds=passed[0]), monotonic=lambda: passed[0], sleep=sleep
    )


@pytest.fixture
def root() -> Path:
    return Path(__file__).resolve().parents[3]


@pytest.fixture
def fleet(planned, clock):
    """Return three hosts, and a deploy to them."""
    # That module imports this one.
    from tests.unit.deployment.fleet import Fleet

    plans = [planned("core"), planned("workers", node="B"), planned("workers", node="C")]
    return Fleet(plans, clock)
