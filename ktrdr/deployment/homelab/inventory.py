"""Inventory: the hosts of an installation and their settings, as typed values.

`inventory_file` reads it from ``deploy/inventory.yml``. Every value has a default, so that a file
may be as short as the list of its worker nodes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

DEFAULT_DOMAIN: Final = "ktrdr.home.mynerd.place"
MAX_SCALE: Final = 3
# A month. A former secret that stays valid for longer has not been replaced in practice.
MAX_OVERLAP_HOURS: Final = 720
# Docker's default. An installation with several interfaces may choose one of them.
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
        raise ValueError("is not an image name without a tag")
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


class _Section(BaseModel):
    """Section of the inventory. Unknown keys and wrong types are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Ports(_Section):
    """Ports that the core host publishes. The ports inside the containers never change."""

    backend: Port = 8000
    grafana: Port = 3000
    jaeger: Port = 16686
    otlp: Port = 4317
    prometheus: Port = 9090
    postgres: Port = 5432
    nfs: Port = 2049


class Core(_Section):
    """Core host, which keeps the state.

    Attributes:
        host: Name that the operator's ssh and the workers can resolve.
        workdir: Directory of the compose file, the settings and the monitoring files.
        shared_directory: Directory that the worker nodes share.
        nfs: Server of that directory: a container of the core, or an external machine.
        bind_address: Address on which PostgreSQL, OTLP and NFS listen, for the worker nodes alone.
        public_address: Address on which the backend, Grafana and Jaeger listen.
        ports: Published ports.
    """

    host: HostName
    workdir: AbsolutePath = "/opt/ktrdr-core"
    shared_directory: AbsolutePath = "/srv/ktrdr-shared"
    nfs: Literal["container", "external"] = "container"
    bind_address: Address = ALL_INTERFACES
    public_address: Address = ALL_INTERFACES
    ports: Ports = Ports()


class WorkerNode(_Section):
    """Host that runs workers.

    Attributes:
        host: Name that ssh and the backend can resolve.
        workdir: Directory of the compose file and the settings.
        shared_directory: Mount point of the core's shared directory.
        bind_address: Address on which its workers listen, for the backend and Prometheus.
        scale: Number of workers of each type, 1 to 3.
    """

    host: HostName
    workdir: AbsolutePath
    shared_directory: AbsolutePath = "/mnt/ktrdr-shared"
    bind_address: Address = ALL_INTERFACES
    scale: Annotated[int, Field(ge=1, le=MAX_SCALE)] = 1


class SecretSettings(_Section):
    """Source of the secrets, and their delivery to the containers.

    Attributes:
        source: 1Password, a file that age or SOPS has encrypted, or the variables
            ``KTRDR_SECRET_…`` of the environment.
        vault: Name of the 1Password vault.
        item: Name of the item in it.
        file: Encrypted file.
        identity: File with the private key that opens it.
        delivery: ``env``: as environment of the containers, which Docker keeps on the host's disk;
            ``tmpfs``: as files in the host's memory, which a reboot empties.
        overlap_hours: Time for which tokens signed with a former ``jwt_secret`` are valid (h).
    """

    source: Literal["1password", "age", "sops", "environment"] = "1password"
    vault: Line = "KTRDR Homelab Secrets"
    item: Line = "ktrdr-homelab-core"
    file: Line | None = None
    identity: Line | None = None
    delivery: Literal["env", "tmpfs"] = "env"
    overlap_hours: Annotated[int, Field(ge=0, le=MAX_OVERLAP_HOURS)] = 24

    @property
    def in_memory(self) -> bool:
        """Return whether containers receive the secrets as files in the host's memory."""
        return self.delivery == "tmpfs"


class HookSettings(_Section):
    """Settings of hooks, the operator's own programs; see `ktrdr.deployment.deploy.hooks`.

    Attributes:
        timeout_s: Time limit for each (s).
        environment: Further variables of the operator's environment that they inherit.
        secrets: Secret fields that they receive; none by default.
    """

    timeout_s: Annotated[int, Field(ge=1, le=3600)] = 60
    environment: Sequence[VariableName] = ()
    secrets: Sequence[
        Literal["db_username", "db_password", "jwt_secret", "grafana_password", "ghcr_token"]
    ] = ()


class Inventory(_Section):
    """Inventory of an installation.

    Attributes:
        domain: DNS zone of the default host names.
        image: Image of backend and workers, without its tag.
        nfs_image: Image of the NFS server, which has the same tag.
        registry_user: User that logs in to the registry with the secret ``ghcr_token``.
        api_url: URL of the backend for workers.
        ssh_user: User that logs in to the hosts; by default the ssh configuration decides.
        minimum_free_mb: Free disk space below which the check reports a problem (MiB).
        secrets: Source and delivery of the secrets.
        hooks: Settings of hooks.
        core: Core host.
        workers: Worker nodes by name.
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
        """Return the host name of the registry that has the image."""
        return self.image.partition("/")[0]


def add_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Add the defaults that depend on other values.

    Values of a wrong type stay unchanged, for the validation to report.
    """
    domain = given.get("domain", DEFAULT_DOMAIN)
    zone = domain if isinstance(domain, str) else DEFAULT_DOMAIN
    core = _add_missing(given.get("core", {}), {"host": f"backend.{zone}"})
    workers = given.get("workers", {})
    if isinstance(workers, Mapping):
        workers = {
            name: _add_node_defaults(str(name), entry, zone) for name, entry in workers.items()
        }
    return {"api_url": _api_url(core), **given, "domain": domain, "core": core, "workers": workers}


def _add_node_defaults(name: str, given: Any, zone: str) -> Any:
    label = name.lower()
    defaults = {"host": f"workers-{label}.{zone}", "workdir": f"/opt/ktrdr-workers-{label}"}
    return _add_missing(given, defaults)


def _api_url(core: Any) -> str:
    if not isinstance(core, Mapping):
        return "http://backend:8000"
    ports = core.get("ports")
    port = ports.get("backend", 8000) if isinstance(ports, Mapping) else 8000
    return f"http://{core['host']}:{port}"


def _add_missing(given: Any, defaults: Mapping[str, Any]) -> Any:
    # `D:` without a value is the shortest entry of a node.
    if given is None:
        return dict(defaults)
    return {**defaults, **given} if isinstance(given, Mapping) else given
