"""Removal of a stack from a host: its containers and networks, and its data on request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.parallel import map_hosts
from ktrdr.deployment.hosts.queries import query_docker
from ktrdr.deployment.scripts.script import Script
from ktrdr.deployment.services import ServiceManager
from ktrdr.deployment.ssh.interface import Transport

_QUERY_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class ProjectResources:
    """Names of the resources of a Compose project on a host.

    Attributes:
        containers: Names of the containers.
        networks: Names of the networks.
        volumes: Names of the volumes, which hold the data.
    """

    containers: tuple[str, ...]
    networks: tuple[str, ...]
    volumes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form that ``--json`` prints."""
        return {
            "containers": list(self.containers),
            "networks": list(self.networks),
            "volumes": list(self.volumes),
        }


def fetch_resources(hosts: Sequence[Host], transport: Transport) -> list[ProjectResources]:
    """Return the resources of the stack on each host.

    Raises:
        HostUnreachable: A host cannot be reached.
        HostNotReady: Docker on a host does not answer.
    """
    return map_hosts(lambda host: _fetch_resources(host, transport), hosts, transport)


def remove_stack(manager: ServiceManager, *, volumes: bool) -> ProjectResources:
    """Stop all services in their order, and remove the stack; return what existed before.

    Args:
        manager: Manager of the host's services.
        volumes: Whether to remove the data, too.

    Raises:
        DeploymentFailed: A service did not stop, or a resource could not be removed.
        Locked: The lock was lost.
        HostNotReady: Docker there does not answer.
        HostUnreachable: The host cannot be reached.
    """
    host, product = manager.host, manager.product
    resources = _fetch_resources(host, manager.transport)
    containers = manager.fetch_containers()
    if containers:
        manager.stop(())
    manager.show_progress("remove containers and networks" + (" and volumes" if volumes else ""))
    images = (each.image for each in containers.values() if product.is_own_image(each.image))
    script = Script(
        "scripts/remove_stack.sh",
        (
            *("--project", host.project),
            *("--workdir", host.workdir),
            *("--secrets-directory", host.secrets_directory),
            *("--secrets-image", next(images, "")),
            *("--note", manager.lock.owner.to_json()),
            *("--volumes", "yes" if volumes else "no"),
        ),
        extensions=(product.script_extensions(host).delivery,),
    )
    manager.run_locked(script, "removal")
    return resources


def _fetch_resources(host: Host, transport: Transport) -> ProjectResources:
    script = Script("scripts/list_stack.sh", (host.project,))
    output = query_docker(host, script, transport, timeout_s=_QUERY_TIMEOUT_S)
    return ProjectResources(
        *(tuple(sorted(output.get(title, ()))) for title in ("containers", "networks", "volumes"))
    )
