"""Routes of a host, networks of its Docker, and collisions between the two."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.deployment.hosts.networks import find_collisions, parse_docker_networks, parse_routes

NETWORKS = "ktrdr_default 0123456789ab - 172.19.0.0/16|bridge 00 docker0 172.17.0.0/16 fd00::/64|"


def collisions(networks: str, routes: str) -> list[tuple[str, str]]:
    found = find_collisions(parse_docker_networks(networks), parse_routes(routes))
    return [(network.name, route.interface) for network, route in found]


@pytest.mark.parametrize(
    "route",
    ["172.19.5.0/24 eth0", "172.16.0.0/12 wg0", "172.19.0.1 tailscale0", "172.19.0.0/16 br-other"],
)
def test_a_route_to_addresses_of_a_network_of_docker_is_a_collision(route) -> None:
    interface = route.split()[1]
    expected = [("ktrdr_default", interface)]
    if route.startswith("172.16."):
        expected.append(("bridge", interface))
    assert collisions(NETWORKS, f"10.0.0.0/8 eth0|{route}|") == expected


@pytest.mark.parametrize(
    "route",
    [
        "172.19.0.0/16 br-0123456789ab",  # made by Docker itself
        "172.17.0.0/16 docker0",
        "0.0.0.0/0 eth0",
        "128.0.0.0/1 tun0",  # one half of a VPN's default route
        "192.168.1.0/24 eth0",
    ],
)
def test_other_routes_are_no_collision(route) -> None:
    assert collisions(NETWORKS, f"{route}|") == []


def test_each_network_is_reported_with_one_route() -> None:
    assert collisions(NETWORKS, "172.19.0.0/16 eth0|172.19.1.0/24 eth1|") == [
        ("ktrdr_default", "eth0")
    ]


@given(st.text(), st.text())
def test_no_output_of_a_host_is_an_error(networks, routes) -> None:
    collisions(networks, routes)


@given(st.ip_addresses(v=4), st.integers(8, 32))
def test_every_route_is_read(address, prefix) -> None:
    network = IPv4Network((address, prefix), strict=False)
    (route,) = parse_routes(f"{network} eth0|")
    assert route == (network, "eth0")
