"""Containers of this machine's engine that are kept in the state they are described in."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from lab.build import digest_of
from lab.engine import docker
from lab.place import LABEL, NETWORK
from lab.shell import run, works

_MADE_FROM: Final = f"{LABEL}.made-from"


def ensure_network() -> None:
    """The network that the lab's containers know each other's names in."""
    if not works(docker(), "network", "inspect", NETWORK):
        run(docker(), "network", "create", "--label", LABEL, NETWORK)


def ensure(name: str, image: str, options: Iterable[str], *, command: Iterable[str] = ()) -> bool:
    """Makes a container run as described; says whether it had to be made or started.

    One that was made from another image or with other options is replaced; its volumes stay.
    """
    given, words = list(options), list(command)
    image_id = run(docker(), "image", "inspect", "--format", "{{.Id}}", image).stdout.strip()
    made_from = digest_of(image_id, *given, *words)
    there = inspect(name)
    if there and there["Config"]["Labels"].get(_MADE_FROM) == made_from:
        if there["State"]["Running"]:
            return False
        if works(docker(), "start", name, timeout=60):
            return True
    remove(name)
    labels = ("--label", LABEL, "--label", f"{_MADE_FROM}={made_from}")
    run(
        *(docker(), "run", "--detach", "--name", name, "--network", NETWORK, *labels),
        *(*given, image, *words),
        timeout=120,
    )
    return True


def inspect(name: str) -> dict[str, Any] | None:
    """What the engine knows of a container, or None if there is none."""
    done = run(docker(), "container", "inspect", name, check=False)
    if done.returncode:
        return None
    found: dict[str, Any] = json.loads(done.stdout)[0]
    return found


def is_running(name: str) -> bool:
    """Whether there is such a container, and it runs."""
    there = inspect(name)
    return bool(there and there["State"]["Running"])


def remove(name: str) -> None:
    """Removes a container, if there is one; named volumes stay."""
    run(docker(), "rm", "--force", "--volumes", name, check=False)


def execute(name: str, *command: str, timeout: float = 60, check: bool = True) -> str:
    """What a program inside a container prints."""
    return run(docker(), "exec", name, *command, timeout=timeout, check=check).stdout


def works_inside(name: str, *command: str, timeout: float = 15) -> bool:
    """Whether a program inside a container exits with 0."""
    return works(docker(), "exec", name, *command, timeout=timeout)
