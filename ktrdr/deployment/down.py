"""Takes a stack off a host: containers and networks, and its data only on an explicit word."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from ktrdr.deployment.homelab.hosts import Place
from ktrdr.deployment.homelab.secret_steps import delivery_extension, secret_removal_options
from ktrdr.deployment.scripts import sections
from ktrdr.deployment.scripts.script import Script, render
from ktrdr.deployment.services import Attendant
from ktrdr.deployment.ssh.interface import Transport
from ktrdr.deployment.status.query import MAX_AT_ONCE, not_asked

_LOOK_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Belongings:
    """What there is of a stack on a host, by name.

    Attributes:
        containers: Its containers.
        networks: Its networks.
        volumes: Its named volumes: the data.
    """

    containers: tuple[str, ...]
    networks: tuple[str, ...]
    volumes: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing of it is there but, perhaps, data."""
        return not (self.containers or self.networks)

    def to_json(self) -> dict[str, Any]:
        """The names as ``--json`` prints them."""
        return {
            "containers": list(self.containers),
            "networks": list(self.networks),
            "volumes": list(self.volumes),
        }


def look(places: Sequence[Place], transport: Transport) -> list[Belongings]:
    """What there is on each host.

    Raises:
        HostUnreachable: One of them cannot be reached.
        HostNotReady: Docker on one of them cannot be asked.
    """
    with ThreadPoolExecutor(max_workers=MAX_AT_ONCE) as pool:
        return list(pool.map(lambda place: _look(place, transport), places))


def remove(attendant: Attendant, *, volumes: bool) -> Belongings:
    """Stops everything in its order and removes it; what comes back is what was there.

    Args:
        attendant: Who does it.
        volumes: Whether the data goes, too.

    Raises:
        DeploymentFailed: Something would not stop, or not go.
        Locked: The lock was lost.
        HostNotReady: Docker there cannot be asked.
        HostUnreachable: The host cannot be reached.
    """
    place = attendant.place
    there = _look(place, attendant.transport)
    containers = attendant.look()
    if containers:
        attendant.stop(())
    attendant.tell("remove containers and networks" + (" and volumes" if volumes else ""))
    ours = next((each.image for each in containers.values() if attendant.is_ours(each)), "")
    script = Script(
        "scripts/remove_stack.sh",
        (
            *("--project", place.project),
            *("--workdir", place.workdir),
            *("--note", attendant.lock.owner.note()),
            *("--volumes", "yes" if volumes else "no"),
            *secret_removal_options(place.target, place.project, ours),
        ),
        extensions=(delivery_extension(place.target),),
    )
    attendant.change(script, "removing")
    return there


def _look(place: Place, transport: Transport) -> Belongings:
    script = render(Script("scripts/list_stack.sh", (place.project,)), {})
    result = transport.run(place.host, script, timeout_s=_LOOK_TIMEOUT_S)
    if result.exit_code:
        raise not_asked(place, result)
    found = sections.split(result.stdout)
    return Belongings(
        *(tuple(sorted(found.get(title, ()))) for title in ("containers", "networks", "volumes"))
    )
