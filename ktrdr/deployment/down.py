"""Takes a stack off a host: containers and networks, and its data only on an explicit word."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.scripts import delivery, sections
from ktrdr.deployment.scripts import removal as commands
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


def look(hosts: Sequence[Host], transport: Transport) -> list[Belongings]:
    """What there is on each host.

    Raises:
        HostUnreachable: One of them cannot be reached.
        HostNotReady: Docker on one of them cannot be asked.
    """
    with ThreadPoolExecutor(max_workers=MAX_AT_ONCE) as pool:
        return list(pool.map(lambda host: _look(host, transport), hosts))


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
    host = attendant.host
    there = _look(host, attendant.transport)
    containers = attendant.look()
    if containers:
        attendant.stop(())
    attendant.tell("remove containers and networks" + (" and volumes" if volumes else ""))
    ours = next((each.image for each in containers.values() if attendant.is_ours(each)), "")
    body = [commands.remove(host.project, volumes=volumes), _forget(host, ours)]
    attendant.change("\n".join(body), "removing")
    return there


def _forget(host: Host, image: str) -> str:
    """Removes the secrets that were delivered in the host's memory, if any were."""
    consumers = delivery.CORE if host.stack == "core" else delivery.WORKERS
    return delivery.remove(delivery.directory_of(host.project), consumers, image)


def _look(host: Host, transport: Transport) -> Belongings:
    script = render(Script(commands.belongings(host.project)), {})
    result = transport.run(host.address, script, timeout_s=_LOOK_TIMEOUT_S)
    if result.exit_code:
        raise not_asked(host, result)
    found = sections.split(result.stdout)
    return Belongings(
        *(tuple(sorted(found.get(title, ()))) for title in ("containers", "networks", "volumes"))
    )
