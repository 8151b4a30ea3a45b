"""IPv4 routes of a host, the networks of its Docker, and collisions between the two."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network
from typing import Final, NamedTuple

# A route that covers more addresses than this is a default route, or one half of it.
_DEFAULT_PREFIX: Final = 7


class Route(NamedTuple):
    """Route of a host to a network, through an interface."""

    network: IPv4Network
    interface: str


class DockerNetwork(NamedTuple):
    """Bridge network of a host's Docker, with the addresses of its containers."""

    name: str
    interface: str
    subnets: Sequence[IPv4Network]


def parse_network(text: str) -> IPv4Network | None:
    """Return an IPv4 network or address as a network; None for anything else."""
    try:
        return IPv4Network(text, strict=False)
    except ValueError:
        return None


def parse_routes(text: str) -> Iterator[Route]:
    """Parse ``NETWORK INTERFACE|…``, without default routes."""
    for entry in text.split("|"):
        destination, _, interface = entry.strip().partition(" ")
        network = parse_network(destination)
        if network and network.prefixlen > _DEFAULT_PREFIX:
            yield Route(network, interface)


def parse_docker_networks(text: str) -> Iterator[DockerNetwork]:
    """Parse ``NAME ID BRIDGE SUBNET…|…``, where BRIDGE is ``-`` if the id names the bridge."""
    for entry in text.split("|"):
        match entry.split():
            case [name, identifier, bridge, *words]:
                interface = f"br-{identifier}" if bridge == "-" else bridge
                subnets = [subnet for word in words if (subnet := parse_network(word))]
                yield DockerNetwork(name, interface, subnets)


def find_collisions(
    networks: Iterable[DockerNetwork], routes: Iterable[Route]
) -> Iterator[tuple[DockerNetwork, Route]]:
    """Yield each network of Docker with the first route that leads its addresses elsewhere."""
    known = list(routes)
    for network in networks:
        for route in known:
            overlaps = any(subnet.overlaps(route.network) for subnet in network.subnets)
            if overlaps and route.interface != network.interface:
                yield network, route
                break
