"""Releases: the tag of an image, and the configuration with its compose file."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import re
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import yaml

from ktrdr.deployment.releases import compose_yaml
from ktrdr.deployment.releases.compose_yaml import ServiceError
from ktrdr.errors import ConfigurationError

# Name of a stack.
Target = str

# CI names images by the first characters of the full commit id. Such a tag never moves.
_COMMIT_TAG: Final = re.compile(r"sha-([0-9a-f]{7})")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SHORT_COMMIT: Final = 7
# 96 bits, so that two configurations of a host never share a hash.
_HASH_LENGTH: Final = 24

# Releases up to 0.1.0 mount a file there.
DATABASE: Final = "deploy/db/"
MONITORING: Final = "monitoring/"
# Compose files of single hosts; a deploy writes them, and no commit has them.
NODE: Final = "deploy/node/"
FIELDS: Final = "deploy/fields/"
GRAFANA: Final = "monitoring/grafana/"

# $NAME, ${NAME}, and ${NAME:-default}, ${NAME:?message}, ${NAME:+other} with or without the colon.
_VARIABLE: Final = re.compile(r"(?<!\$)\$(?:(\w+)|\{(\w+)(?:(:?[-?+])((?:[^{}]|\{[^{}]*\})*))?\})")
# A line of an .env file, with a value in quotes or without.
_ENV_LINE: Final = re.compile(
    r"""\s*(?:export\s+)?(\w+)\s*=\s*(?:'([^']*)'|"([^"]*)"|(.*?))\s*(?:\s#.*)?"""
)
# A variable without a default, as the whole value.
_VARIABLE_ALONE: Final = re.compile(r"\$\{(\w+)(?::?-)?\}")
# ${NAME} and ${NAME:?message}. Compose does not replace variables after two dollar signs.
_REQUIRED: Final = re.compile(r"(?<!\$)\$\{(\w+)(?::?\?[^}]*)?\}")
# Sizes as Compose reads them: 512m, 1.5G, 2GiB, 1073741824.
_MEMORY: Final = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt]?)(?:i?b)?", re.IGNORECASE)
_UNITS_MB: Final = {"": 2**-20, "k": 2**-10, "m": 1, "g": 2**10, "t": 2**20}


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
        memory_mb: Memory limit (MiB); None without a limit.
        cpus: CPU limit; None without a limit.
    """

    name: str
    image: str
    profiles: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    worker_port: int | None = None
    ports: tuple[str, ...] = ()
    memory_mb: int | None = None
    cpus: float | None = None


@dataclass(frozen=True, slots=True)
class ComposeFile:
    """Parsed compose file.

    Attributes:
        services: Services in the order of the file.
    """

    services: tuple[Service, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all services."""
        return tuple(service.name for service in self.services)

    @property
    def profiles(self) -> tuple[str, ...]:
        """Return the sorted names of all profiles."""
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


@dataclass(frozen=True, slots=True)
class Release:
    """Image tag with its configuration.

    Attributes:
        tag: Tag of the image.
        commit: Full id of the configuration's commit, or None for the working tree.
        files: Configuration by path, as in the work directory.
        note: Why the configuration is not that of a commit, in one sentence, if it should be.
    """

    tag: str
    commit: str | None
    files: Mapping[str, bytes]
    note: str = ""

    @property
    def source(self) -> str:
        """Return the name of the configuration's source, for messages."""
        return f"commit {self.commit[:_SHORT_COMMIT]}" if self.commit else "the working tree"

    @property
    def configuration_hash(self) -> str:
        """Return the hash of all files, under which hosts keep releases."""
        return self.digest("")[:_HASH_LENGTH]

    @property
    def is_immutable(self) -> bool:
        """Return whether the tag always names the same image."""
        return _COMMIT_TAG.fullmatch(self.tag) is not None

    def parse_compose_file(self, stack: str) -> ComposeFile:
        """Parse the stack's compose file, with what the host's own one overrides."""
        override = self.files.get(node_file_name(stack), b"")
        return parse_compose_file(compose_file_name(stack), self.compose_content(stack), override)

    def compose_content(self, stack: str) -> bytes:
        """Return the content of the stack's compose file."""
        return self.read(compose_file_name(stack))

    def settings(self, stack: str) -> dict[str, str]:
        """Return the variables of the stack's ``.env`` file."""
        return parse_env_file(self.read(env_file_name(stack)))

    def with_host_files(self, stack: str, files: Mapping[str, bytes]) -> Release:
        """Return the release with these compose files of one host, and no other ones of a host."""
        own = host_file_names(stack)
        common = {name: content for name, content in self.files.items() if name not in own}
        return replace(self, files={**common, **files})

    def digest(self, below: str, *, except_below: str = "") -> str:
        """Return a hash of the names and contents of the files below a directory."""
        digest = hashlib.sha256()
        for path in sorted(self.files):
            if path.startswith(below) and not (except_below and path.startswith(except_below)):
                content = hashlib.sha256(self.files[path]).hexdigest()
                digest.update(f"{content} {path}\n".encode())
        return digest.hexdigest()

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            ConfigurationError: The release does not have it.
        """
        if name not in self.files:
            raise ConfigurationError(
                f"{self.source} has no {name}",
                hint="Run ktrdr in a checkout of the project, or deploy another commit.",
            )
        return self.files[name]


def compose_file_name(stack: str) -> str:
    """Return the name of the stack's compose file."""
    return f"docker-compose.{stack}.yml"


def env_file_name(stack: str) -> str:
    """Return the name of the file with the stack's settings."""
    return f".env.{stack}"


def tmpfs_file_name(stack: str) -> str:
    """Return the name of the compose file that delivers the stack's secrets in memory."""
    return f"deploy/tmpfs/{stack}.yml"


def node_file_name(stack: str) -> str:
    """Return the name of the compose file that overrides the stack's on one host."""
    return f"{NODE}{stack}.yml"


def fields_file_name(stack: str) -> str:
    """Return the name of the compose file that delivers further secrets of the inventory."""
    return f"{FIELDS}{stack}.yml"


def host_file_names(stack: str) -> tuple[str, ...]:
    """Return the names of the compose files that a deploy writes for one host, as Compose reads."""
    return node_file_name(stack), fields_file_name(stack)


def shipped_paths(stack: str) -> tuple[str, ...]:
    """Return the paths that belong on hosts of a stack. Directories end in a slash."""
    files = (compose_file_name(stack), env_file_name(stack), tmpfs_file_name(stack))
    return (*files, DATABASE, MONITORING) if stack == "core" else files


def pack_archive(files: Mapping[str, bytes]) -> bytes:
    """Return a compressed tar archive of files; the same files result in the same bytes."""
    return _pack_archive(tuple(sorted(files.items())))


# All worker nodes receive the same files.
@lru_cache(maxsize=8)
def _pack_archive(files: tuple[tuple[str, bytes], ...]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, content in files:
            member = tarfile.TarInfo(path)
            member.size = len(content)
            # Prometheus and Grafana read them as users of their own.
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def unpack_archive(text: str) -> dict[str, bytes]:
    """Return the files of a base64-encoded archive, or an empty dictionary if it is invalid."""
    try:
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(text)), mode="r:gz") as tar:
            files = ((member.name, tar.extractfile(member)) for member in tar if member.isfile())
            return {name.removeprefix("./"): file.read() for name, file in files if file}
    except (ValueError, OSError, EOFError, tarfile.TarError, zlib.error):
        return {}


def tag_for_commit(commit: str) -> str:
    """Return the tag that CI gives to the image of a commit."""
    return f"sha-{commit[:_SHORT_COMMIT]}"


def commit_in_tag(tag: str) -> str | None:
    """Return the abbreviated commit id that a tag names, or None if it names none."""
    match = _COMMIT_TAG.fullmatch(tag)
    return match[1] if match else None


def validate_tag(tag: str) -> str:
    """Return the tag if it is valid for images.

    Raises:
        ConfigurationError: It is not valid.
    """
    if not _TAG.fullmatch(tag):
        raise ConfigurationError(
            f"{tag!r} is not a valid image tag",
            hint="Use letters, digits and (not first) `._-`. CI's tags are like sha-abc1234.",
        )
    return tag


def parse_compose_file(name: str, content: bytes, override: bytes = b"") -> ComposeFile:
    """Parse a compose file.

    Args:
        name: Name of the file, for error messages.
        content: Content of the file.
        override: Content of another compose file, which overrides it.

    Raises:
        ConfigurationError: It is not a compose file.
    """
    try:
        services = _load(content, override)["services"]
        return ComposeFile(tuple(_parse_service(name, entry) for name, entry in services.items()))
    except (yaml.YAMLError, ServiceError, AttributeError, TypeError, KeyError, ValueError) as exc:
        raise compose_yaml.to_error(name, content, exc) from exc


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
    """Parse an ``.env`` file as Compose does: ``NAME=value`` lines and comments."""
    values: dict[str, str] = {}
    for match in filter(None, map(_ENV_LINE.fullmatch, content.decode().splitlines())):
        name, literal, quoted, plain = match.groups()
        values[name] = literal or interpolate(quoted or plain or "", values)
    return values


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Replace variables in a text as Compose does."""

    def value_of(match: re.Match[str]) -> str:
        operator, other = match[3] or "", interpolate(match[4] or "", variables)
        value = variables.get(match[1] or match[2])
        is_set = bool(value) if ":" in operator else value is not None
        if "+" in operator:
            return other if is_set else ""
        return other if "-" in operator and not is_set else value or ""

    return _VARIABLE.sub(value_of, text)


# Several hosts use the same file, and each needs several facts of it. No caller changes the result.
@lru_cache(maxsize=8)
def _load(content: bytes, override: bytes = b"") -> Any:
    return compose_yaml.load(content, override)


def _environments(content: bytes) -> list[Mapping[str, Any]]:
    services = (_load(content) or {}).get("services") or {}
    return [entry.get("environment") or {} for entry in services.values()]


def _parse_service(name: str, entry: Mapping[str, Any]) -> Service:
    port = (entry.get("environment") or {}).get("WORKER_PORT")
    resources = (entry.get("deploy") or {}).get("resources") or {}
    limits = resources.get("limits") or {}
    memory = _MEMORY.fullmatch(str(limits.get("memory", entry.get("mem_limit"))))
    cpus = re.fullmatch(r"\d+(\.\d+)?", str(limits.get("cpus", entry.get("cpus"))))
    if not entry.get("image"):
        raise ServiceError(name, "has no image of its own, and hosts build none")
    return Service(
        name=name,
        image=str(entry["image"]),
        profiles=tuple(entry.get("profiles") or ()),
        depends_on=tuple(entry.get("depends_on") or ()),
        worker_port=int(port) if port else None,
        ports=tuple(map(_shorten_port, entry.get("ports") or ())),
        memory_mb=round(float(memory[1]) * _UNITS_MB[memory[2].lower()]) if memory else None,
        cpus=float(cpus[0]) if cpus else None,
    )


def _shorten_port(port: object) -> str:
    """Return a published port in Compose's short form."""
    if not isinstance(port, Mapping):
        return str(port)
    parts = (port.get("host_ip"), port.get("published", ""), port["target"])
    text = ":".join(str(part) for part in parts if part is not None)
    return f"{text}/{port.get('protocol', 'tcp')}"
