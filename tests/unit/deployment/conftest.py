"""A small homelab, a release for it, and what hosts would answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy.plan import Plan, Request, Stamp, make
from ktrdr.deployment.deploy.steps import Wanted
from ktrdr.deployment.homelab.inventory import Inventory, add_defaults
from ktrdr.deployment.releases.release import Release

TAG = "sha-abc1234"
STAMP_ID = "20261123-120000-ab12"
COMMIT = "abc1234" + "0" * 33
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
def stamp() -> Stamp:
    return Stamp(STAMP_ID, "ada@laptop", NOW)


@pytest.fixture
def planned(inventory, release, stamp) -> Callable[..., Plan]:
    def plan(target="core", **asked: Any) -> Plan:
        if target == "workers":
            asked.setdefault("node", "B")
        return make(inventory, Request(target=target, **asked), release, stamp)

    return plan


@dataclass
class Host:
    """What a host with this plan's services says; a test changes what it is about."""

    plan: Plan
    containers: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
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

    def run_all(self) -> Host:
        """All services run, healthy, in the plan's version, registered where they are workers."""
        for service in self.plan.wanted:
            self.run(service)
        return self

    def run(self, service: Wanted, **changes: Any) -> None:
        name = service.name
        self.hashes[name] = f"hash-of-{name}"
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
        elif service.says_version:
            self.answers[name] = {"status": "ok", "version": {"image_tag": tag}, "database": "ok"}

    def check_output(self) -> str:
        return "".join(f"{name}={value}\n" for name, value in self.facts.items())

    def fetch_output(self) -> str:
        images = [
            json.dumps({"id": f"sha256:{image}", "tags": [image], "digests": [_digest(image)]})
            for image in {service.image for service in self.plan.wanted}
        ]
        hashes = [f"{service.name} hash-of-{service.name}" for service in self.plan.wanted]
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


def _digest(image: str) -> str:
    return f"{image.rpartition(':')[0]}@sha256:digest-of-{image}"


def _sections(parts: dict[str, list[str]]) -> str:
    return "".join(
        f"== {title}\n" + "".join(f"{x}\n" for x in lines) for title, lines in parts.items()
    )


@pytest.fixture
def host_of() -> Callable[[Plan], Host]:
    return Host


@pytest.fixture
def clock() -> Clock:
    """Time that passes only when somebody waits."""
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
def fleet(planned, inventory, clock):
    """Three hosts with this plan's services, and a deploy to them."""
    # It is made of what stands here.
    from tests.unit.deployment.fleet import Fleet

    plans = [planned("core"), planned("workers", node="B"), planned("workers", node="C")]
    return Fleet(plans, inventory, clock)
