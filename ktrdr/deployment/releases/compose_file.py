"""What a compose file says, as far as a deploy has to know before Compose itself runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import yaml

from ktrdr.errors import ConfigurationError

# ${NAME}, ${NAME:-default} and ${NAME-default}, the forms that our compose files use in images.
_VARIABLE: Final = re.compile(r"\$\{(\w+)(?:(:?-)([^}]*))?\}")

# A variable, without a default of its own.
_ALONE: Final = re.compile(r"\$\{(\w+)(?::?-)?\}")
# ${NAME} and ${NAME:?message}; two dollars are one that Compose leaves alone.
_REQUIRED: Final = re.compile(r"(?<!\$)\$\{(\w+)(?::?\?[^}]*)?\}")


@dataclass(frozen=True, slots=True)
class Service:
    """One service of a compose file.

    Attributes:
        name: Its name.
        image: Its image, with variables.
        profiles: The profiles that start it; none means that it always runs.
        needs: The services it depends on directly.
        worker_port: Where it listens, if it is a worker.
        ports: What it publishes on the host, in Compose's short form, with variables.
    """

    name: str
    image: str
    profiles: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    worker_port: int | None = None
    ports: tuple[str, ...] = ()

    def runs_with(self, profiles: Iterable[str]) -> bool:
        """Whether it is started when these profiles are chosen."""
        return not self.profiles or not set(self.profiles).isdisjoint(profiles)


@dataclass(frozen=True, slots=True)
class Stack:
    """A compose file.

    Attributes:
        file: Its name.
        services: What it defines, in its order.
    """

    file: str
    services: tuple[Service, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all services."""
        return tuple(service.name for service in self.services)

    @property
    def profiles(self) -> tuple[str, ...]:
        """All profiles that a service belongs to, sorted."""
        return tuple(sorted({name for service in self.services for name in service.profiles}))

    def running_with(self, profiles: Iterable[str]) -> tuple[Service, ...]:
        """The services that these profiles start."""
        chosen = frozenset(profiles)
        return tuple(service for service in self.services if service.runs_with(chosen))

    def dependencies_of(self, name: str) -> tuple[str, ...]:
        """All services that one depends on, directly or not, in the file's order."""
        needs = {service.name: service.needs for service in self.services}
        found: set[str] = set()
        waiting = list(needs[name])
        while waiting:
            other = waiting.pop()
            if other not in found:
                found.add(other)
                waiting += needs.get(other, ())
        return tuple(other for other in self.names if other in found)


def read(file: str, content: bytes) -> Stack:
    """Reads a compose file.

    Raises:
        ConfigurationError: It is not one.
    """
    try:
        data = _parsed(content)
        services = data["services"]
        return Stack(file, tuple(_service(name, entry) for name, entry in services.items()))
    except (yaml.YAMLError, AttributeError, TypeError, KeyError, ValueError) as exc:
        raise ConfigurationError(
            f"{file} of the release is not a compose file",
            hint="Correct it, or deploy another commit; `docker compose config` checks it.",
        ) from exc


def required(content: bytes) -> tuple[str, ...]:
    """The variables that a compose file has no default for, sorted.

    Among them are those that a service is given under their own name (``NAME:`` alone).
    """
    text = content.decode("utf-8", "replace")
    found = set(_REQUIRED.findall(text))
    services = (_parsed(content) or {}).get("services") or {}
    for entry in services.values():
        environment = entry.get("environment")
        if isinstance(environment, Mapping):
            found |= {name for name, value in environment.items() if value is None}
    return tuple(sorted(found))


def handed(content: bytes, variables: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Which containers' environment variables hold a variable of Compose, and nothing else.

    Args:
        content: A compose file.
        variables: The variables of Compose that are of interest.

    Returns:
        Pairs of a variable of Compose and one of a container, sorted.
    """
    wanted = frozenset(variables)
    found = set()
    for entry in ((_parsed(content) or {}).get("services") or {}).values():
        environment = entry.get("environment")
        for name, value in environment.items() if isinstance(environment, Mapping) else ():
            alone = _ALONE.fullmatch(str(value))
            variable = name if value is None else alone[1] if alone else None
            if variable in wanted:
                found.add((variable, name))
    return tuple(sorted(found))


# Several hosts are given the same file, and each asks several things of it.
@lru_cache(maxsize=8)
def _parsed(content: bytes) -> Any:
    """What the file says; nobody changes it. Libyaml reads it ten times as fast, where it is."""
    return yaml.load(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe


def _service(name: str, entry: Mapping[str, Any]) -> Service:
    environment = entry.get("environment")
    port = environment.get("WORKER_PORT") if isinstance(environment, Mapping) else None
    return Service(
        name=name,
        image=str(entry["image"]),
        profiles=tuple(entry.get("profiles") or ()),
        needs=tuple(entry.get("depends_on") or ()),
        worker_port=int(port) if port else None,
        ports=tuple(map(str, entry.get("ports") or ())),
    )


def read_settings(content: bytes) -> dict[str, str]:
    """The variables of an ``.env`` file of ours: ``NAME=value`` lines and comments."""
    lines = (line.strip() for line in content.decode().splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def filled_in(text: str, variables: Mapping[str, str]) -> str:
    """The text with its variables replaced the way Compose does it."""

    def value(found: re.Match[str]) -> str:
        name, operator, default = found.groups()
        given = variables.get(name)
        if given is None or (operator == ":-" and not given):
            return default or ""
        return given

    return _VARIABLE.sub(value, text)
