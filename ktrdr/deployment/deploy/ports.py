"""The ports that a stack publishes on its host, and who else listens there."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.releases import compose_file as stacks

# The short form of compose files: [ADDRESS:]HOST:CONTAINER[/PROTOCOL].
_MAPPING: Final = re.compile(r"(?:(\d+\.\d+\.\d+\.\d+):)?(\d+):\d+(?:/tcp)?")
# `docker ps`: 0.0.0.0:8000->8000/tcp, :::8000->8000/tcp, 0.0.0.0:5003-5004->5003-5004/tcp
_PUBLISHED: Final = re.compile(r"(\[?[0-9a-f.:]+?\]?):(\d+)(?:-(\d+))?->")
_EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104  # compared with, not listened on
_IPV4_DIGITS: Final = 8


class Place(NamedTuple):
    """An address of a host, and a port of it."""

    address: str
    port: int

    def meets(self, other: Place) -> bool:
        """Whether two programs that listen there would be in each other's way."""
        if self.port != other.port:
            return False
        addresses = {self.address, other.address}
        return len(addresses) == 1 or not addresses.isdisjoint(_EVERYWHERE)


class Container(NamedTuple):
    """A container that publishes ports."""

    project: str
    name: str
    places: tuple[Place, ...]


class Taken(NamedTuple):
    """A port that a stack needs and that somebody else has; ``by`` is the container, if known."""

    port: int
    by: str


def wanted(plan: Plan) -> tuple[Place, ...]:
    """What the services of a plan listen on."""
    variables = {**plan.release.settings(plan.site.target), **dict(plan.site.settings)}
    names = {service.name for service in plan.wanted}
    services = plan.release.stack(plan.site.target).services
    texts = [text for service in services if service.name in names for text in service.ports]
    found = [_MAPPING.fullmatch(stacks.filled_in(text, variables)) for text in texts]
    return tuple(Place(each[1] or _EVERYWHERE[0], int(each[2])) for each in found if each)


def taken(plan: Plan, facts: Mapping[str, str]) -> Iterator[Taken]:
    """The ports that others have, from the output of ``check.sh``."""
    containers = tuple(_containers(facts.get("published", "")))
    listening = tuple(_listening(facts.get("listening", "")))
    ours = [place for each in containers if each.project == plan.site.project
            for place in each.places]  # fmt: skip
    for place in wanted(plan):
        others = [each for each in containers if each.project != plan.site.project]
        holder = next((each for each in others if any(map(place.meets, each.places))), None)
        if holder:
            yield Taken(place.port, f"the container {holder.name}")
        elif any(map(place.meets, listening)) and not any(map(place.meets, ours)):
            yield Taken(place.port, "another program")


def _containers(text: str) -> Iterator[Container]:
    for entry in filter(None, text.split("|")):
        project, _, rest = entry.partition(";")
        name, _, published = rest.partition(";")
        yield Container(project, name, tuple(_published(published)))


def _published(text: str) -> Iterator[Place]:
    for address, first, last in _PUBLISHED.findall(text):
        for port in range(int(first), int(last or first) + 1):
            yield Place(address.strip("[]"), port)


def _listening(text: str) -> Iterator[Place]:
    """The sockets as Linux lists them: ``0100007F:1F90``, the address in the machine's order."""
    for entry in text.split():
        address, _, port = entry.partition(":")
        yield Place(_address(address), int(port, 16))


def _address(digits: str) -> str:
    # Each group of four bytes is a number of the machine, and all of ours are little-endian.
    groups = (digits[at : at + _IPV4_DIGITS] for at in range(0, len(digits), _IPV4_DIGITS))
    packed = b"".join(bytes.fromhex(group)[::-1] for group in groups)
    address = ipaddress.ip_address(packed)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
