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
        addresses = {self.address, other.address}
        is_shared = len(addresses) == 1 or not addresses.isdisjoint(_EVERYWHERE)
        return self.port == other.port and is_shared


def published_ports(plan: Plan) -> tuple[PortBinding, ...]:
    """Return the ports that the services of a plan publish."""
    variables = {**plan.release.settings(plan.host.stack), **dict(plan.config.settings)}
    names = {service.name for service in plan.expected}
    services = plan.release.parse_compose_file(plan.host.stack).services
    texts = [text for service in services if service.name in names for text in service.ports]
    found = [_MAPPING.fullmatch(interpolate(text, variables)) for text in texts]
    return tuple(PortBinding(each[1] or _EVERYWHERE[0], int(each[2])) for each in found if each)


def find_conflicts(plan: Plan, facts: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Yield each port of a plan that another program uses, and this program, according to facts."""
    own: list[PortBinding] = []
    others: list[tuple[str, PortBinding]] = []
    for entry in filter(None, facts.get("published", "").split("|")):
        project, _, rest = entry.partition(";")
        name, _, text = rest.partition(";")
        if project == plan.host.project:
            own += _parse_published(text)
        else:
            others += [(f"the container {name}", each) for each in _parse_published(text)]
    listening = list(_parse_listening(facts.get("listening", "")))
    for binding in published_ports(plan):
        owner = next((name for name, each in others if binding.conflicts_with(each)), None)
        is_own = any(map(binding.conflicts_with, own))
        if not owner and not is_own and any(map(binding.conflicts_with, listening)):
            owner = "another program"
        if owner:
            yield binding.port, owner


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
