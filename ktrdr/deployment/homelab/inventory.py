"""What is deployed where: the typed form of ``deploy/inventory.yml``.

`inventory_file` reads it; every value has the specification's default, so that a file may be as
short as the list of its worker nodes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

DEFAULT_DOMAIN: Final = "ktrdr.home.mynerd.place"
HIGHEST_SCALE: Final = 3
# A month: a secret that is good for longer has not been changed.
LONGEST_OVERLAP_H: Final = 720
# Docker publishes on all interfaces by default; an installation with several narrows it down.
ALL_INTERFACES: Final = "0.0.0.0"  # noqa: S104  # as Docker does


def _host_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?", text):
        raise ValueError("is not a host name")
    return text


def _absolute_path(text: str) -> str:
    if not re.fullmatch(r"/[^\x00-\x1f:$]*[^\x00-\x1f:$/]", text):
        raise ValueError("is not an absolute path that Docker can mount")
    return text


def _address(text: str) -> str:
    try:
        ipaddress.IPv4Address(text)
    except ValueError as exc:
        raise ValueError("is not an IPv4 address") from exc
    return text


def _image_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.:-]*(/[a-z0-9][a-z0-9._-]*)+", text):
        raise ValueError("is not an image's name without a tag")
    return text


def _url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#'\"$]+", text):
        raise ValueError("is not a URL of the form http://HOST:PORT")
    return text


def _plain_line(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("is not one line of text")
    return text


def _variable_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        raise ValueError("is not the name of a variable")
    return text


HostName = Annotated[str, AfterValidator(_host_name)]
AbsolutePath = Annotated[str, AfterValidator(_absolute_path)]
Address = Annotated[str, AfterValidator(_address)]
ImageName = Annotated[str, AfterValidator(_image_name)]
Url = Annotated[str, AfterValidator(_url)]
Line = Annotated[str, AfterValidator(_plain_line)]
VariableName = Annotated[str, AfterValidator(_variable_name)]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Part(BaseModel):
    """A part of the inventory: unknown keys and wrong types are errors, nothing changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Ports(_Part):
    """The ports that the core host publishes; inside the containers they never change."""

    backend: Port = 8000
    grafana: Port = 3000
    jaeger: Port = 16686
    otlp: Port = 4317
    prometheus: Port = 9090
    postgres: Port = 5432
    nfs: Port = 2049


class Core(_Part):
    """The host that keeps the state.

    Attributes:
        host: Its name as the operator's ssh, and the workers, resolve it.
        workdir: Where compose file, settings and monitoring files are put.
        shared_directory: What the NFS server exports.
        bind_address: Where PostgreSQL, OTLP and NFS listen, for the worker nodes alone.
        public_address: Where the backend, Grafana and Jaeger listen.
        ports: The published ports.
    """

    host: HostName
    workdir: AbsolutePath = "/opt/ktrdr-core"
    shared_directory: AbsolutePath = "/srv/ktrdr-shared"
    bind_address: Address = ALL_INTERFACES
    public_address: Address = ALL_INTERFACES
    ports: Ports = Ports()


class WorkerNode(_Part):
    """A host that runs workers.

    Attributes:
        host: Its name as ssh and the backend resolve it.
        workdir: Where compose file and settings are put.
        shared_directory: Where the core host's NFS export is mounted.
        bind_address: Where its workers listen, for the backend and Prometheus.
        scale: How many workers of each type run, 1 to 3.
    """

    host: HostName
    workdir: AbsolutePath
    shared_directory: AbsolutePath = "/mnt/ktrdr-shared"
    bind_address: Address = ALL_INTERFACES
    scale: Annotated[int, Field(ge=1, le=HIGHEST_SCALE)] = 1


class SecretSettings(_Part):
    """Where the secrets are, and how they reach the containers.

    Attributes:
        source: Who keeps them: 1Password, a file that age or SOPS has encrypted, or the variables
            ``KTRDR_SECRET_…`` of the environment.
        vault: The name of the 1Password vault.
        item: The name of the item in it.
        file: The encrypted file.
        identity: The file with the private key that opens it.
        delivery: ``env``: as environment of the containers, which Docker keeps on the host's disk;
            ``tmpfs``: as files in the host's memory, which a reboot empties.
        overlap_hours: How long tokens signed with a former ``jwt_secret`` are good; 0: not at all.
    """

    source: Literal["1password", "age", "sops", "environment"] = "1password"
    vault: Line = "KTRDR Homelab Secrets"
    item: Line = "ktrdr-homelab-core"
    file: Line | None = None
    identity: Line | None = None
    delivery: Literal["env", "tmpfs"] = "env"
    overlap_hours: Annotated[int, Field(ge=0, le=LONGEST_OVERLAP_H)] = 24

    @property
    def in_memory(self) -> bool:
        """Whether containers get the secrets as files in the host's memory."""
        return self.delivery == "tmpfs"


class HookSettings(_Part):
    """How the operator's own programs are run; see `ktrdr.deployment.deploy.hooks`.

    Attributes:
        timeout_s: How long each may take (s).
        environment: Variables of the operator's environment that they get besides the usual ones.
        secrets: Fields of the vault that they get; none by default.
    """

    timeout_s: Annotated[int, Field(ge=1, le=3600)] = 60
    environment: Sequence[VariableName] = ()
    secrets: Sequence[
        Literal["db_username", "db_password", "jwt_secret", "grafana_password", "ghcr_token"]
    ] = ()


class Inventory(_Part):
    """A whole homelab.

    Attributes:
        domain: The DNS zone that default host names are in.
        image: The image of backend and workers, without its tag.
        nfs_image: The image of the NFS server, which has the same tag.
        registry_user: Who logs in to the registry with the vault's ``ghcr_token``.
        api_url: Where workers reach the backend.
        ssh_user: Who logs in to the hosts; by default what the ssh configuration says.
        minimum_free_mb: Less free disk than this (in MiB) is reported before anything changes.
        secrets: Where the secrets are.
        hooks: How the operator's own programs are run.
        core: The core host.
        workers: The worker nodes by name.
    """

    domain: HostName
    image: ImageName = "ghcr.io/ktrdr/ktrdr-backend"
    nfs_image: ImageName = "ghcr.io/ktrdr/ktrdr-nfs-server"
    registry_user: Line = "ktrdr"
    api_url: Url
    ssh_user: Line | None = None
    minimum_free_mb: Annotated[int, Field(ge=0)] = 2048
    secrets: SecretSettings = SecretSettings()
    hooks: HookSettings = HookSettings()
    core: Core
    workers: Mapping[str, WorkerNode]

    @property
    def registry(self) -> str:
        """The host of the registry that the image is pulled from."""
        return self.image.partition("/")[0]


def with_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, completed by the defaults that depend on other values.

    Values of a wrong type are passed on as they are, for the validation to name.
    """
    domain = given.get("domain", DEFAULT_DOMAIN)
    zone = domain if isinstance(domain, str) else DEFAULT_DOMAIN
    core = _completed(given.get("core", {}), {"host": f"backend.{zone}"})
    workers = given.get("workers", {})
    if isinstance(workers, Mapping):
        workers = {name: _node(str(name), entry, zone) for name, entry in workers.items()}
    api_url = {"api_url": _api_url(core)}
    return {**api_url, **given, "domain": domain, "core": core, "workers": workers}


def _node(name: str, given: Any, zone: str) -> Any:
    label = name.lower()
    defaults = {"host": f"workers-{label}.{zone}", "workdir": f"/opt/ktrdr-workers-{label}"}
    return _completed(given, defaults)


def _api_url(core: Any) -> str:
    if not isinstance(core, Mapping):
        return "http://backend:8000"
    ports = core.get("ports")
    port = ports.get("backend", 8000) if isinstance(ports, Mapping) else 8000
    return f"http://{core['host']}:{port}"


def _completed(given: Any, defaults: Mapping[str, Any]) -> Any:
    # `D:` with nothing behind it is the shortest way to write an entry.
    if given is None:
        return dict(defaults)
    return {**defaults, **given} if isinstance(given, Mapping) else given
