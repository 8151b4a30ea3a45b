"""Sample hosts, and outputs of their scripts, for tests of queries and maintenance."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from ktrdr.deployment.hosts.containers import Container, parse_containers
from ktrdr.deployment.hosts.host import Host

NOW = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
CORE = Host(
    name="core",
    address="backend.lab.test",
    workdir="/opt/core",
    stack="core",
    project="ktrdr-core",
    secrets_directory="/run/ktrdr/ktrdr-core",
    managed_directories=("monitoring",),
)
B = Host(
    name="workers B",
    address="workers-b.lab.test",
    workdir="/opt/b",
    stack="workers",
    project="ktrdr-workers",
    secrets_directory="/run/ktrdr/ktrdr-workers",
    node="B",
)
BACKEND_IMAGE = "ghcr.io/ktrdr/ktrdr-backend"
TAG = "sha-abc1234"


def container_json(service: str, image: str = "", depends_on: str = "", **state: Any) -> str:
    """Return a container as a host's script prints it: healthy, unless the state says otherwise."""
    return json.dumps(
        {
            "id": f"id-of-{service}",
            "image": f"sha256:{service}",
            "name": image or f"{BACKEND_IMAGE}:{TAG}",
            "labels": {
                "com.docker.compose.service": service,
                "com.docker.compose.depends_on": depends_on,
            },
            "state": {
                "Status": "running",
                "StartedAt": "2026-11-24T05:00:00.123456789Z",
                "ExitCode": 0,
                "Health": {"Status": "healthy", "Log": []},
                **state,
            },
            "restarts": 0,
            "created": "2026-11-24T04:59:59.5Z",
        }
    )


def container(service: str, image: str = "", depends_on: str = "", **state: Any) -> Container:
    return parse_containers([container_json(service, image, depends_on, **state)])[service]


def script_output(sections: Mapping[str, Iterable[str]]) -> str:
    return "".join(
        f"== {title}\n" + "".join(f"{line}\n" for line in lines)
        for title, lines in sections.items()
    )
