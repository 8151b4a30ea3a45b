"""Conflicts of a stack's ports with the programs that Linux and Docker list."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktrdr.deployment.deploy import ports
from ktrdr.deployment.deploy.ports import PortBinding

SSH_AND_8000 = "00000000:0016 00000000:1F40"


@pytest.fixture
def plan(planned, release):
    """Plan of the core: its backend listens everywhere, Prometheus on the loopback alone."""
    text = release.files["docker-compose.core.yml"].decode()
    text = text.replace(
        "    depends_on", '    ports: ["${A:-0.0.0.0}:${BACKEND_PORT}:8000"]\n    depends_on'
    )
    text = text.replace(
        '"prom/prometheus:v3"', '"prom/prometheus:v3", ports: ["127.0.0.1:9090:9090"]'
    )
    release.files["docker-compose.core.yml"] = text.encode()
    return planned()


def conflicts(plan, listening="", published=""):
    return list(ports.find_conflicts(plan, {"listening": listening, "published": published}))


def test_the_published_ports_follow_from_compose_file_and_inventory(plan) -> None:
    assert ports.published_ports(plan) == (
        PortBinding("0.0.0.0", 8000),
        PortBinding("127.0.0.1", 9090),
    )


def test_a_port_that_no_program_uses_is_free(plan) -> None:
    assert conflicts(plan, "00000000:0016") == []


def test_a_port_of_the_stacks_own_containers_is_free(plan) -> None:
    published = "ktrdr-core;ktrdr-core-backend-1;0.0.0.0:8000->8000/tcp, :::8000->8000/tcp|"
    assert conflicts(plan, SSH_AND_8000, published) == []


def test_a_port_of_another_container_is_a_conflict_with_it(plan) -> None:
    published = ";old-backend;0.0.0.0:7999-8001->7999-8001/tcp|"
    assert conflicts(plan, SSH_AND_8000, published) == [(8000, "the container old-backend")]


def test_a_port_of_another_program_is_a_conflict(plan) -> None:
    assert conflicts(plan, SSH_AND_8000) == [(8000, "another program")]


@pytest.mark.parametrize(
    ("listening", "owners"),
    [
        ("0100007F:2382", ["another program"]),  # 127.0.0.1
        ("0200A8C0:2382", []),  # 192.168.0.2 is not the loopback
        ("00000000000000000000000000000000:2382", ["another program"]),
        ("0000000000000000FFFF00000100007F:2382", ["another program"]),  # ::ffff:127.0.0.1
    ],
)
def test_only_the_same_address_or_all_addresses_conflict(plan, listening, owners) -> None:
    assert [owner for _, owner in conflicts(plan, listening)] == owners


@given(st.ip_addresses(), st.integers(0, 65535))
def test_any_address_is_parsed_as_linux_writes_it(address, port) -> None:
    packed = address.packed
    groups = [packed[at : at + 4][::-1].hex().upper() for at in range(0, len(packed), 4)]
    (binding,) = ports._parse_listening(f"{''.join(groups)}:{port:04X}")
    mapped = getattr(address, "ipv4_mapped", None)
    assert (ipaddress.ip_address(binding.address), binding.port) == (mapped or address, port)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60))
def test_any_output_of_docker_is_parsed_without_an_error(plan, text) -> None:
    conflicts(plan, published=text)
