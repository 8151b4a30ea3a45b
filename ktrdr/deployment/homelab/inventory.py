"""Inventory: the hosts of an installation and their settings, as typed values.

`inventory_file` reads it from ``deploy/inventory.yml``. Every value has a default, so that a file
may be as short as the list of its worker nodes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

DEFAULT_DOMAIN: Final = "ktrdr.home.mynerd.place"
MAX_SCALE: Final = 3
# Variables that the compose files and the image set in workers, also in their form with a file.
_OWN_VARIABLES: Final = (
    r"((DB|WORKER|KTRDR)_\w+|CHILD_VARIABLES|ENVIRONMENT|HOME|IMAGE_TAG|LOG_LEVEL|MPLCONFIGDIR|"
    r"OMP_NUM_THREADS|OPENBLAS_NUM_THREADS|OTLP_ENDPOINT|PATH|PYTHON(DONTWRITEBYTECODE|PATH|UNBUFFERED)|"
    r"SHARED_MOUNT_PATH)(_FILE)?"
)
_CONFIDENTIAL_NAME: Final = (
    r"(?i:(password|passwd|passphrase|secret|token|api_?key|credentials?)(_|\d|$)|"
    r"(^|_)(auth|cookie|dsn|key|pass|pwd)(_|$))"
)
# A user in a URL, and the beginnings of tokens and keys.
_CONFIDENTIAL_VALUE: Final = (
    r"://[^/\s]*@|^(AGE-SECRET-KEY-|AKIA|eyJ|gh[a-z]_|github_pat_|glpat-|sk-|-----BEGIN )"
)
# Single words, such as PATH, belong to shells and systems. Others make a program load, trust or
# contact something else, or configure KTRDR itself.
_RESERVED_VARIABLES: Final = (
    r"(LD|DYLD|GLIBC|GCONV|MALLOC|BASH|LC|XDG|PYTHON|VIRTUAL|NODE|JAVA|SSL|OPENSSL|REQUESTS|CURL"
    r"|GIT|SSH|DOCKER|COMPOSE|BUILDKIT|UVICORN|PSYCOPG|OMP|OPENBLAS|MKL|NUMEXPR"
    r"|KTRDR|DB|JWT|WORKER|CORE|BACKEND|IMAGE|SHARED|NFS|OTLP|POSTGRES|PROMETHEUS|GRAFANA|JAEGER"
    r"|TIMESCALEDB|CONTAINER|CHILD|HEALTH|DATABASE|SERVICE"
    r"|GF_(ADMIN|SECURITY_ADMIN|USERS|ANALYTICS|PLUGINS|INSTALL|NEWS|DASHBOARDS|PATHS|SERVER|LOG))_.+"
    r"|.+_(PROXY|FILE|SECRETS|SH|PY|SQL)"
    r"|LOG_LEVEL|LEASE_S|STOP_GRACE_S|SWEEP_EVERY_S|CORS_ORIGINS|BAD_TOKENS_A_MINUTE"
    r"|WEB_CONCURRENCY|FORWARDED_ALLOW_IPS|RES_OPTIONS"
)
# Fields of the vault that every installation has.
FIELDS: Final = ("db_username", "db_password", "jwt_secret", "grafana_password", "ghcr_token")
# Docker's default. An installation with several interfaces may choose one of them.
ALL_INTERFACES: Final = "0.0.0.0"  # noqa: S104  # as Docker does
# One character of a line of text.
_PLAIN: Final = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"


def _require(pattern: str, reason: str) -> AfterValidator:
    """Return a validator of texts that match a pattern as a whole."""

    def validate(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(reason)
        return text

    return AfterValidator(validate)


def _refuse(pattern: str, reason: str) -> AfterValidator:
    """Return a validator of texts that contain no match of a pattern."""
    return _require(rf"(?s)(?!.*(?:{pattern})).*", reason)


def _parse(parse: Callable[[str], object], reason: str) -> AfterValidator:
    """Return a validator of texts that a function understands; the text becomes its form of it."""

    def validate(text: str) -> str:
        try:
            return str(parse(text))
        except ValueError as exc:
            raise ValueError(reason) from exc

    return AfterValidator(validate)


SshName = Annotated[
    str, _require(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?", "is not a host name")
]
NodeName = Annotated[
    str,
    _require(
        r"[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?",
        "is not a name of letters, digits and inner hyphens",
    ),
]
AbsolutePath = Annotated[
    str,
    _require(r"/[^\x00-\x1f:$]*[^\x00-\x1f:$/]", "is not an absolute path that Docker can mount"),
]
Address = Annotated[str, _parse(ipaddress.IPv4Address, "is not an IPv4 address")]


def _url_host(text: str) -> str:
    """Return a host name as URLs write it, because tokens are compared with them."""
    is_number = re.fullmatch(r"(?:.*\.)?(\d+|0[xX][0-9a-fA-F]*)", text)
    return str(ipaddress.IPv4Address(text)) if is_number else text.lower()


HostName = Annotated[SshName, _parse(_url_host, "is not an IPv4 address")]
ImageName = Annotated[
    str,
    _require(r"[a-z0-9][a-z0-9.:-]*(/[a-z0-9][a-z0-9._-]*)+", "is not an image name without a tag"),
]
Url = Annotated[
    str, _require(r"https?://[^\s/?#'\"$]+", "is not a URL of the form http://HOST:PORT")
]
Line = Annotated[str, _require(rf"(?=.*\S){_PLAIN}+", "is not one line of text")]
# An empty name is none.
OptionalLine = Annotated[Line | None, BeforeValidator(lambda text: text or None)]
VariableName = Annotated[str, _require(r"[A-Za-z_][A-Za-z0-9_]*", "is not the name of a variable")]
ExtraVariable = Annotated[
    VariableName,
    _refuse(rf"^({_OWN_VARIABLES})$", "is a variable that KTRDR sets itself"),
    _refuse(_CONFIDENTIAL_NAME, "looks like the name of a secret, which belongs into the vault"),
]
ExtraValue = Annotated[
    str,
    _require(rf"{_PLAIN}{{0,4096}}", "is not one line of at most 4096 characters"),
    _refuse(_CONFIDENTIAL_VALUE, "looks like a secret, which belongs into the vault"),
]
# A worker and its operation need half of the minimum each.
Memory = Annotated[
    str,
    _require(
        r"(?i)(51[2-9]|5[2-9]\d|[6-9]\d\d|[1-9]\d{3,5})m|[1-9]\d{0,3}g",
        "is not an amount of memory such as 512m, which is the least, or 3g",
    ),
    AfterValidator(str.lower),
]
Tag = Annotated[str, _require(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", "is not a tag such as gpu")]
Cpus = Annotated[float, Field(ge=0.1, le=512)]
Count = Annotated[int, Field(ge=0, le=MAX_SCALE)]
Network = Annotated[
    str,
    _parse(
        partial(ipaddress.ip_network, strict=False),
        "is not an address or a network such as 192.168.1.0/24",
    ),
]
Export = Annotated[
    str,
    _require(
        r"[A-Za-z0-9][A-Za-z0-9_.-]*:/[^\x00-\x1f$]*",
        "is not an NFS export such as nas.example.org:/tank/ktrdr",
    ),
]
SecretVariable = Annotated[
    str,
    _require(
        r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+",
        "must be two or more words in capitals, such as BROKER_API_KEY",
    ),
    _refuse(
        rf"^({_RESERVED_VARIABLES})$",
        "must not be a variable of KTRDR or of a program in its containers",
    ),
]
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
        host: Name or address in the network, for the workers; in lower case.
        ssh_host: Name for ssh; by default `host` as it is written.
        workdir: Directory of the compose file, the settings and the monitoring files.
        shared_directory: Directory that the worker nodes share.
        nfs: Server of that directory: a container of the core, or an external machine.
        bind_address: Address on which PostgreSQL, OTLP and NFS listen, for the worker nodes alone.
        public_address: Address on which the backend, Grafana and Jaeger listen.
        ports: Published ports.
    """

    host: HostName
    ssh_host: SshName
    workdir: AbsolutePath = "/opt/ktrdr-core"
    shared_directory: AbsolutePath = "/srv/ktrdr-shared"
    nfs: Literal["container", "external"] = "container"
    bind_address: Address = ALL_INTERFACES
    public_address: Address = ALL_INTERFACES
    ports: Ports = Ports()


class WorkerNode(_Section):
    """Host that runs workers.

    Attributes:
        host: Name or address in the network, for the backend; in lower case.
        ssh_host: Name for ssh; by default `host` as it is written.
        workdir: Directory of the compose file and the settings.
        shared_directory: Mount point of the core's shared directory.
        bind_address: Address on which its workers listen, for the backend and Prometheus.
        skip_unreachable: Whether deploys of several hosts go on without the node if it is off.
        scale: Number of workers of each type, 1 to 3.
        backtest, training: Number of workers of a type, 0 to 3; None for `scale`.
        backtest_memory, training_memory: Memory limit of each; None for the compose file's.
        backtest_cpus, training_cpus: CPU limit of each; None for the compose file's.
        tags: Tags by which a deploy selects nodes.
        environment: Further variables of all its workers, none of them secret.
    """

    host: HostName
    ssh_host: SshName
    workdir: AbsolutePath
    shared_directory: AbsolutePath = "/mnt/ktrdr-shared"
    bind_address: Address = ALL_INTERFACES
    skip_unreachable: bool = False
    scale: Annotated[int, Field(ge=1, le=MAX_SCALE)] = 1
    backtest: Count | None = None
    training: Count | None = None
    backtest_memory: Memory | None = None
    training_memory: Memory | None = None
    backtest_cpus: Cpus | None = None
    training_cpus: Cpus | None = None
    tags: Sequence[Tag] = ()
    environment: Mapping[ExtraVariable, ExtraValue] = {}

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of workers of each type."""
        given = {"backtest": self.backtest, "training": self.training}
        return {kind: self.scale if count is None else count for kind, count in given.items()}


class SecretField(_Section):
    """Further field of the vault, and its delivery to containers.

    Attributes:
        variable: Variable of the containers; with delivery in memory, followed by ``_FILE``.
        stacks: Stacks whose services that run KTRDR's image have it; with none, only hooks can.
    """

    variable: SecretVariable
    stacks: Sequence[Literal["core", "workers"]]


class SecretSettings(_Section):
    """Source of the secrets, and their delivery to the containers.

    Attributes:
        source: 1Password, a file that age or SOPS has encrypted, the variables ``KTRDR_SECRET_…``
            of the environment, or a program that prints JSON.
        vault: Name of the 1Password vault; None for all vaults of the account.
        item: Name of the item in it.
        account: 1Password account; None for the one that `op` chooses.
        file: Encrypted file.
        identity: File with the private key that opens it.
        command: Program that prints the fields, and its arguments.
        fields: Further fields by name.
        delivery: ``env``: as environment of the containers, which Docker keeps on the host's disk;
            ``tmpfs``: as files in the host's memory, which a reboot empties.
        overlap_hours: Time for which tokens signed with a former ``jwt_secret`` are valid (h).
    """

    source: Literal["1password", "age", "sops", "environment", "command"] = "1password"
    vault: OptionalLine = "KTRDR Homelab Secrets"
    item: Line = "ktrdr-homelab-core"
    account: OptionalLine = None
    file: Line | None = None
    identity: Line | None = None
    command: Sequence[Line] = ()
    fields: Mapping[VariableName, SecretField] = {}
    delivery: Literal["env", "tmpfs"] = "env"
    # A former secret that stays valid for more than a month has not been replaced in practice.
    overlap_hours: Annotated[int, Field(ge=0, le=720)] = 24

    @property
    def field_names(self) -> tuple[str, ...]:
        """Return the names of all fields."""
        return (*FIELDS, *self.fields)


class HookSettings(_Section):
    """Settings of hooks, the operator's own programs; see `ktrdr.deployment.deploy.hooks`.

    Attributes:
        timeout_s: Time limit for each (s).
        environment: Further variables of the operator's environment that they inherit.
        secrets: Secret fields that they receive; none by default.
    """

    timeout_s: Annotated[int, Field(ge=1, le=3600)] = 60
    environment: Sequence[VariableName] = ()
    secrets: Sequence[str] = ()


class PrepareSettings(_Section):
    """Settings of `ktrdr host prepare`.

    Attributes:
        docker_packages: ``docker``: packages of Docker's own repository; ``distribution``: those of
            Debian or Ubuntu.
        firewall: Whether firewall rules let only the named hosts reach the published ports.
        people: Addresses and networks that may reach backend, Grafana and Jaeger; all by default.
        share: NFS export that hosts mount as their shared directory, as ``HOST:/PATH``; by default
            workers mount that of the core.
    """

    docker_packages: Literal["docker", "distribution"] = "docker"
    firewall: bool = True
    people: Sequence[Network] = ()
    share: Export | None = None


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
        prepare: Settings of `ktrdr host prepare`.
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
    prepare: PrepareSettings = PrepareSettings()
    core: Core
    workers: Mapping[NodeName, WorkerNode]

    @property
    def registry(self) -> str:
        """Return the host name of the registry that has the image."""
        return self.image.partition("/")[0]


def add_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Add the defaults that depend on other values.

    Values of a wrong type stay unchanged, for the validation to report.
    """
    domain, workers = given.get("domain", DEFAULT_DOMAIN), given.get("workers", {})
    core = _add_host_defaults(given.get("core"), host=f"backend.{domain}")
    if isinstance(workers, Mapping):
        workers = {
            name: _add_host_defaults(
                entry, host=f"workers-{label}.{domain}", workdir=f"/opt/ktrdr-workers-{label}"
            )
            for name, entry in workers.items()
            for label in [str(name).lower()]
        }
    return {"api_url": _api_url(core), **given, "domain": domain, "core": core, "workers": workers}


def _add_host_defaults(given: Any, **defaults: str) -> Any:
    # `D:` without a value is the shortest entry of a node.
    host = {**defaults, **(given or {})} if isinstance(given, Mapping | None) else given
    return {"ssh_host": host["host"], **host} if isinstance(host, Mapping) else host


def _api_url(core: Any) -> str:
    if not isinstance(core, Mapping):
        return "http://backend:8000"
    ports = core.get("ports")
    port = ports.get("backend", 8000) if isinstance(ports, Mapping) else 8000
    return f"http://{core['host']}:{port}".lower()
