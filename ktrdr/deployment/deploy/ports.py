"""Ports that a stack publishes on its host, and conflicts with other programs."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.releases.release import interpolate

# The short form of compose files: [ADDRESS:]HOST:CONTAINER[/PROTOCOL].
_MAPPING: Final = re.compile(r"(?:(\d+\.\d+\.\d+\.\d+):)?(\d+):\d+(?:/tcp)?")
# `docker ps`: 0.0.0.0:8000->8000/tcp, :::8000->8000/tcp, 0.0.0.0:5003-5004->5003-5004/tcp
_PUBLISHED: Final = re.compile(r"(\[?[0-9a-f.:]+?\]?):(\d+)(?:-(\d+))?->")
_EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104  # compared with, not listened on
_IPV4_DIGITS: Final = 8


class PortBinding(NamedTuple):
    """Address and port that a program listens on."""

    address: str
    port: int

    def conflicts_with(self, other: PortBinding) -> bool:
        """Return whether two programs cannot listen on both at the same time."""
        if self.port != other.port:
            return False
        addresses = {self.address, other.address}
        return len(addresses) == 1 or not addresses.isdisjoint(_EVERYWHERE)


class PublishingContainer(NamedTuple):
    """Container that publishes ports."""

    project: str
    name: str
    bindings: tuple[PortBinding, ...]


class PortConflict(NamedTuple):
    """Port that a stack needs, but another program uses."""

    port: int
    owner: str


def published_ports(plan: Plan) -> tuple[PortBinding, ...]:
    """Return the ports that the services of a plan publish."""
    variables = {**plan.release.settings(plan.host.stack), **dict(plan.config.settings)}
    names = {service.name for service in plan.expected}
    services = plan.release.parse_compose_file(plan.host.stack).services
    texts = [text for service in services if service.name in names for text in service.ports]
    found = [_MAPPING.fullmatch(interpolate(text, variables)) for text in texts]
    return tuple(PortBinding(each[1] or _EVERYWHERE[0], int(each[2])) for each in found if each)


def find_conflicts(plan: Plan, facts: Mapping[str, str]) -> Iterator[PortConflict]:
    """Yield the ports of a plan that other programs use, according to the host's facts."""
    containers = tuple(_parse_containers(facts.get("published", "")))
    listening = tuple(_parse_listening(facts.get("listening", "")))
    own = [each for each in containers if each.project == plan.host.project]
    others = [each for each in containers if each.project != plan.host.project]
    for binding in published_ports(plan):

        def uses(container: PublishingContainer, binding: PortBinding = binding) -> bool:
            return any(map(binding.conflicts_with, container.bindings))

        if owner := next(filter(uses, others), None):
            yield PortConflict(binding.port, f"the container {owner.name}")
        elif any(map(binding.conflicts_with, listening)) and not any(map(uses, own)):
            yield PortConflict(binding.port, "another program")


def _parse_containers(text: str) -> Iterator[PublishingContainer]:
    for entry in filter(None, text.split("|")):
        project, _, rest = entry.partition(";")
        name, _, published = rest.partition(";")
        yield PublishingContainer(project, name, tuple(_parse_published(published)))


def _parse_published(text: str) -> Iterator[PortBinding]:
    for address, first, last in _PUBLISHED.findall(text):
        for port in range(int(first), int(last or first) + 1):
            yield PortBinding(address.strip("[]"), port)


def _parse_listening(text: str) -> Iterator[PortBinding]:
    """Parse sockets as Linux lists them: ``0100007F:1F90``, the address in the machine's order."""
    for entry in text.split():
        address, _, port = entry.partition(":")
        yield PortBinding(_parse_address(address), int(port, 16))


def _parse_address(digits: str) -> str:
    # Each group of four bytes is a number in the machine's order. All our hosts are little-endian.
    groups = (digits[at : at + _IPV4_DIGITS] for at in range(0, len(digits), _IPV4_DIGITS))
    packed = b"".join(bytes.fromhex(group)[::-1] for group in groups)
    address = ipaddress.ip_address(packed)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
