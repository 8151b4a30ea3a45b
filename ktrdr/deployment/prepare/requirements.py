"""Requirements of a product on a host that is to be prepared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ktrdr.deployment.hosts.host import Host


class PublishedPorts(NamedTuple):
    """Published ports, and the peers that may reach them: names, addresses or networks."""

    ports: tuple[int, ...]
    peers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostRequirements:
    """Requirements of a product on one host.

    Attributes:
        host: The host.
        user: Name of the user that the containers run as.
        uid: Its number.
        shared_directory: Directory that the containers share with other hosts.
        share_is_mounted: Whether that directory comes from another machine.
        share_source: NFS export to mount there, as ``HOST:/PATH``; empty if there is none.
        share_options: Options of the mount.
        published: Published ports; empty to leave the firewall unchanged.
        from_docker: Whether packages of Docker come from its own repository.
        only_firewall: Whether to update the firewall rules alone, and only if there are any.
    """

    host: Host
    user: str
    uid: int
    shared_directory: str
    share_is_mounted: bool
    share_source: str
    share_options: str
    published: tuple[PublishedPorts, ...]
    from_docker: bool
    only_firewall: bool
