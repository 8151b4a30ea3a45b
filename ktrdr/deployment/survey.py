"""Looks at all hosts of an inventory at once, and changes nothing; needs no secret."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from ktrdr.deployment.commands import docker
from ktrdr.deployment.commands.script import Script, render
from ktrdr.deployment.containers import Container, read_containers
from ktrdr.deployment.inventory import Inventory
from ktrdr.deployment.targets import Place, places
from ktrdr.deployment.transport.interface import Transport
from ktrdr.errors import KtrdrError

TIMEOUT_S: Final = 20.0
MAX_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What was seen of a host; ``fault`` says in words why nothing was."""

    place: Place
    containers: tuple[Container, ...]
    fault: str | None = None


def survey(inventory: Inventory, transport: Transport) -> list[Surveyed]:
    """What runs on every host; a host that cannot be looked at does not hide the others."""
    with ThreadPoolExecutor(max_workers=MAX_AT_ONCE) as pool:
        return list(pool.map(lambda place: _look(place, transport), places(inventory)))


def _look(place: Place, transport: Transport) -> Surveyed:
    script = render(Script(docker.containers(place.project)), {})
    try:
        result = transport.run(place.host, script, timeout_s=TIMEOUT_S)
    except KtrdrError as exc:
        return Surveyed(place, (), exc.message)
    if result.exit_code:
        reason = result.stderr.strip().splitlines() or ["it gave no reason"]
        return Surveyed(place, (), f"Docker cannot be asked: {reason[-1]}")
    found = read_containers(result.stdout.splitlines())
    return Surveyed(place, tuple(found[service] for service in sorted(found)))
