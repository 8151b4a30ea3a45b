"""Requirements of KTRDR on its hosts, for `ktrdr host prepare`."""

from __future__ import annotations

from typing import Final

from ktrdr.deployment.homelab.hosts import CONTAINER_UID
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.prepare.requirements import HostRequirements, PublishedPorts

_EXPORT: Final = "/srv/ktrdr-shared"
# docker-compose.workers.yml has the ports of all workers.
_WORKER_PORTS: Final = tuple(range(5003, 5009))
# `retry` makes mount.nfs wait for its server, here for a week.
_MOUNT_OPTIONS: Final = "nfsvers=4.2,hard,nosuid,nodev,nosymfollow,retry=10080"


def host_requirements(
    inventory: Inventory, host: Host, docker_packages: str | None, *, only_firewall: bool
) -> HostRequirements:
    """Return the requirements on a host.

    Args:
        inventory: The inventory.
        host: The host.
        docker_packages: Source of Docker's packages; None for the inventory's.
        only_firewall: Whether only its firewall rules may change.
    """
    core, ports, settings = inventory.core, inventory.core.ports, inventory.prepare
    is_external = core.nfs == "external"
    nodes = tuple(node.host for node in inventory.workers.values())
    source, options, shared = settings.share or "", _MOUNT_OPTIONS, core.shared_directory
    nfs = () if is_external else (ports.nfs,)
    published = [PublishedPorts((ports.postgres, ports.otlp, *nfs), nodes)]
    if settings.people:
        for_people = (ports.backend, ports.grafana, ports.jaeger)
        published.append(PublishedPorts(for_people, (*settings.people, *nodes)))
    if host.node:
        shared = inventory.workers[host.node].shared_directory
        published = [PublishedPorts(_WORKER_PORTS, (core.host,))]
        if not source and not is_external:
            source, options = f"{core.host}:{_EXPORT}", f"{options},port={ports.nfs}"
    return HostRequirements(
        host=host,
        user="ktrdr",
        uid=CONTAINER_UID,
        shared_directory=shared,
        share_is_mounted=is_external or bool(source),
        share_source=source,
        share_options=options,
        published=tuple(published) if settings.firewall else (),
        from_docker=(docker_packages or settings.docker_packages) == "docker",
        only_firewall=only_firewall,
    )
