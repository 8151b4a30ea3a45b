"""Containers of this machine's engine, which run the registries, kept in a described state."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from lab.build import hash_content
from lab.config import LABEL
from lab.engine import docker
from lab.shell import run, succeeds

_MADE_FROM: Final = f"{LABEL}.made-from"


def ensure_running(
    name: str, image: str, options: Iterable[str], *, command: Iterable[str] = ()
) -> bool:
    """Create or start a container, unless it runs as described.

    A container of another image or with other options is replaced. Its volumes stay.

    Returns:
        True if the container was created or started.
    """
    run_options, words = list(options), list(command)
    image_id = run(docker(), "image", "inspect", "--format", "{{.Id}}", image).stdout.strip()
    made_from = hash_content(image_id, *run_options, *words)
    container = inspect(name)
    if container and container["Config"]["Labels"].get(_MADE_FROM) == made_from:
        if container["State"]["Running"]:
            return False
        if succeeds(docker(), "start", name, timeout=60):
            return True
    remove(name)
    labels = ("--label", LABEL, "--label", f"{_MADE_FROM}={made_from}")
    run(
        *(docker(), "run", "--detach", "--name", name, *labels),
        *(*run_options, image, *words),
        timeout=120,
    )
    return True


def inspect(name: str) -> dict[str, Any] | None:
    """Return the engine's description of a container, or None if it does not exist."""
    done = run(docker(), "container", "inspect", name, check=False)
    if done.returncode:
        return None
    container: dict[str, Any] = json.loads(done.stdout)[0]
    return container


def is_running(name: str) -> bool:
    """Return True if the container exists and runs."""
    container = inspect(name)
    return bool(container and container["State"]["Running"])


def remove(name: str) -> None:
    """Remove a container, if it exists. Named volumes stay."""
    run(docker(), "rm", "--force", "--volumes", name, check=False)
