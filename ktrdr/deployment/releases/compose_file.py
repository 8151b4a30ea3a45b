"""Compose files, as far as a deploy has to know them before Compose itself runs."""

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
# A variable without a default, as the whole value.
_VARIABLE_ALONE: Final = re.compile(r"\$\{(\w+)(?::?-)?\}")
# ${NAME} and ${NAME:?message}. Compose leaves two dollars alone.
_REQUIRED: Final = re.compile(r"(?<!\$)\$\{(\w+)(?::?\?[^}]*)?\}")


@dataclass(frozen=True, slots=True)
class Service:
    """Service of a compose file.

    Attributes:
        name: Name of the service.
        image: Image, with variables.
        profiles: Profiles that start it; with none it always runs.
        depends_on: Services that it depends on directly.
        worker_port: Port that it listens on, if it is a worker.
        ports: Published ports in Compose's short form, with variables.
    """

    name: str
    image: str
    profiles: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    worker_port: int | None = None
    ports: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ComposeFile:
    """Parsed compose file.

    Attributes:
        services: Services in the order of the file.
    """

    services: tuple[Service, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all services."""
        return tuple(service.name for service in self.services)

    @property
    def profiles(self) -> tuple[str, ...]:
        """Sorted names of all profiles."""
        return tuple(sorted({name for service in self.services for name in service.profiles}))

    def enabled_services(self, profiles: Iterable[str]) -> tuple[Service, ...]:
        """Return the services that run with the given profiles."""
        chosen = frozenset(profiles)
        return tuple(
            service
            for service in self.services
            if not service.profiles or not chosen.isdisjoint(service.profiles)
        )

    def dependencies_of(self, name: str) -> tuple[str, ...]:
        """Return all direct and indirect dependencies of a service, in the order of the file."""
        direct = {service.name: service.depends_on for service in self.services}
        dependencies: set[str] = set()
        unvisited = list(direct[name])
        while unvisited:
            other = unvisited.pop()
            if other not in dependencies:
                dependencies.add(other)
                unvisited += direct.get(other, ())
        return tuple(other for other in self.names if other in dependencies)


def parse_compose_file(name: str, content: bytes) -> ComposeFile:
    """Parse a compose file.

    Args:
        name: Name of the file, for error messages.
        content: Content of the file.

    Raises:
        ConfigurationError: It is not a compose file.
    """
    try:
        services = _load_yaml(content)["services"]
        return ComposeFile(tuple(_parse_service(name, entry) for name, entry in services.items()))
    except (yaml.YAMLError, AttributeError, TypeError, KeyError, ValueError) as exc:
        raise ConfigurationError(
            f"{name} of the release is not a compose file",
            hint="Correct it (`docker compose config` checks it), or deploy another commit.",
        ) from exc


def required_variables(content: bytes) -> tuple[str, ...]:
    """Return the sorted variables without a default in a compose file.

    These include variables that a service passes on under their own name (``NAME:`` alone).
    """
    names = set(_REQUIRED.findall(content.decode("utf-8", "replace")))
    for environment in _environments(content):
        names |= {name for name, value in environment.items() if value is None}
    return tuple(sorted(names))


def secret_env_map(content: bytes, variables: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Find the environment variables of containers that contain one variable of Compose alone.

    Args:
        content: A compose file.
        variables: Variables of Compose to look for.

    Returns:
        Sorted pairs of a variable of Compose and one of a container.
    """
    sought = frozenset(variables)
    pairs = set()
    for environment in _environments(content):
        for name, value in environment.items():
            alone = _VARIABLE_ALONE.fullmatch(str(value))
            variable = name if value is None else alone[1] if alone else None
            if variable in sought:
                pairs.add((variable, name))
    return tuple(sorted(pairs))


def parse_env_file(content: bytes) -> dict[str, str]:
    """Parse an ``.env`` file: ``NAME=value`` lines and comments."""
    lines = (line.strip() for line in content.decode().splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Replace variables in a text as Compose does."""

    def value_of(match: re.Match[str]) -> str:
        name, operator, default = match.groups()
        value = variables.get(name)
        if value is None or (operator == ":-" and not value):
            return default or ""
        return value

    return _VARIABLE.sub(value_of, text)


# Several hosts use the same file, and each needs several facts of it. No caller changes the result.
@lru_cache(maxsize=8)
def _load_yaml(content: bytes) -> Any:
    # Libyaml, where it is installed, is ten times as fast.
    return yaml.load(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe


def _environments(content: bytes) -> list[Mapping[str, Any]]:
    services = (_load_yaml(content) or {}).get("services") or {}
    environments = (entry.get("environment") for entry in services.values())
    return [environment for environment in environments if isinstance(environment, Mapping)]


def _parse_service(name: str, entry: Mapping[str, Any]) -> Service:
    environment = entry.get("environment")
    port = environment.get("WORKER_PORT") if isinstance(environment, Mapping) else None
    return Service(
        name=name,
        image=str(entry["image"]),
        profiles=tuple(entry.get("profiles") or ()),
        depends_on=tuple(entry.get("depends_on") or ()),
        worker_port=int(port) if port else None,
        ports=tuple(map(str, entry.get("ports") or ())),
    )
