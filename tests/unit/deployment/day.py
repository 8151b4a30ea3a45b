"""What hosts say on an ordinary day, for the tests of what looks after them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ktrdr.deployment.hosts.containers import Container, parse_containers
from ktrdr.deployment.hosts.history import Entry, Kind, Outcome
from ktrdr.deployment.hosts.host import Host

NOW = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
CORE = Host("core", "", "backend.lab.test", "/opt/core")
B = Host("workers", "B", "workers-b.lab.test", "/opt/b")
BACKEND_IMAGE = "ghcr.io/ktrdr/ktrdr-backend"
TAG = "sha-abc1234"


def described(service: str, image: str = "", needs: str = "", **state: Any) -> str:
    """A container as the host's script prints it: healthy, unless said otherwise."""
    return json.dumps(
        {
            "id": f"id-of-{service}",
            "image": f"sha256:{service}",
            "name": image or f"{BACKEND_IMAGE}:{TAG}",
            "labels": {
                "com.docker.compose.service": service,
                "com.docker.compose.depends_on": needs,
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


def container(service: str, image: str = "", needs: str = "", **state: Any) -> Container:
    return parse_containers([described(service, image, needs, **state)])[service]


def sections(parts: Mapping[str, Sequence[str]]) -> str:
    return "".join(
        f"== {title}\n" + "".join(f"{line}\n" for line in lines) for title, lines in parts.items()
    )


def entry(number: int = 1, tag: str = TAG, **more: Any) -> Entry:
    return Entry(
        **{
            "id": f"r{number}",
            "kind": Kind.DEPLOY,
            "service": "all",
            "tag": tag,
            "commit": None,
            "configuration": f"conf{number}",
            "who": "ada@laptop",
            "began": NOW - timedelta(hours=2) + timedelta(seconds=number),
            "outcome": Outcome.DEPLOYED,
            "duration_s": 3700.0,
            **more,
        }
    )


def recorded(*entries: Entry) -> list[str]:
    return [line for each in entries for line in (each.begun(), each.ended())]
