"""Hosts of an inventory: their selection by name, and the configuration of each."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, takewhile
from typing import Final
from urllib.parse import urlsplit

from ktrdr.deployment.homelab.connections import max_connections
from ktrdr.deployment.homelab.inventory import Core, Inventory, WorkerNode
from ktrdr.deployment.homelab.node_files import node_files, select_profiles
from ktrdr.deployment.hosts.host import Host, HostConfig, unknown_name_error
from ktrdr.deployment.hosts.images import parse_image_name
from ktrdr.deployment.releases import compose_yaml
from ktrdr.deployment.releases.release import (
    FIELDS,
    GRAFANA,
    MONITORING,
    NODE,
    Release,
    compose_file_name,
    fields_file_name,
    interpolate,
    node_file_name,
)
from ktrdr.errors import ConfigurationError
from ktrdr.tokens import CLOCK_LEEWAY

# Variables of the compose files that are secret.
CORE_SECRETS: Final = ("DB_USER", "DB_PASSWORD", "JWT_SECRET", "GF_ADMIN_PASSWORD")
WORKER_SECRETS: Final = ("DB_USER", "DB_PASSWORD", "WORKER_TOKEN")
# What PostgreSQL stores of the password; only the script that applies a release receives it.
VERIFIER: Final = "DB_PASSWORD_VERIFIER"
# Service that exports the shared directory, and the profile that starts it.
NFS_SERVER: Final = "nfs-server"
NFS_PROFILE: Final = "nfs"
# User that the programs of our image run as.
CONTAINER_UID: Final = 10001
# Directory for secrets in the memory of hosts; deploy/tmpfs mounts directories below it.
SECRETS_ROOT: Final = "/run/ktrdr"
_FIELDS_HEADING: Final = "# Written by ktrdr for secrets.fields in the inventory.\n"


def all_hosts(inventory: Inventory) -> tuple[Host, ...]:
    """Return all hosts: the core, then the worker nodes in the inventory's order."""
    core = _host(inventory, "core", inventory.core, MONITORING)
    nodes = (
        _host(inventory, "workers", node, NODE, name) for name, node in inventory.workers.items()
    )
    return (core, *nodes)


def _host(
    inventory: Inventory, stack: str, section: Core | WorkerNode, directory: str, node: str = ""
) -> Host:
    """Return a host of a stack, in which deploys manage the files of a directory."""
    project, fields = f"ktrdr-{stack}", inventory.secrets.fields.values()
    return Host(
        name=f"{stack} {node}".rstrip(),
        address=section.ssh_host,
        dns_name=section.host,
        workdir=section.workdir,
        stack=stack,
        project=project,
        secrets_directory=f"{SECRETS_ROOT}/{project}",
        managed_directories=(directory.rstrip("/"), FIELDS.rstrip("/")),
        further_secrets=tuple(each.variable for each in fields if stack in each.stacks),
        node=node,
    )


def select_hosts(
    inventory: Inventory, words: Sequence[str], tags: Sequence[str] = ()
) -> tuple[Host, ...]:
    """Return the hosts that words name, in their order.

    ``core`` is the core, ``B`` or ``workers B`` a node, ``gpu-*`` the nodes that match, ``workers``
    or ``workers all`` all nodes, and ``all`` or no word all hosts.

    Args:
        inventory: The inventory.
        words: The words.
        tags: Leave out nodes that have none of these tags; none for all.

    Raises:
        UsageError: A word names no host, or no node has a tag; the message lists the valid names.
    """
    core, *workers = all_hosts(inventory)
    is_node = bool(words) and words[0] == "workers"
    found: list[Host] = []
    for word in (words[1:] if is_node else words) or ["all"]:
        if word in ("core", "all") and not is_node:
            found.append(core)
        if word != "core" or is_node:
            found += _find_nodes(workers, word, [] if is_node else ["core", "all"])
    if tags:
        own = {host: inventory.workers[host.node].tags for host in found}
        known = dict.fromkeys(chain.from_iterable(own.values()))
        for tag in tags:
            if tag not in known:
                raise unknown_name_error("tag", tag, known)
        found = [host for host in found if {*tags} & {*own[host]}]
    return tuple(dict.fromkeys(found))


def split_services(inventory: Inventory, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split words such as ``core backend db`` into those for hosts and the services after them."""
    known = {"core", "workers", "all", *(name.lower() for name in inventory.workers)}
    named = list(takewhile(lambda word: word.lower() in known or set(word) & {*"*?["}, words))
    # A first word that names no host is an error, and no service of all hosts.
    named = named or list(words[:1])
    return named, list(words[len(named) :])


def _find_nodes(workers: Sequence[Host], word: str, others: Sequence[str]) -> list[Host]:
    """Return the nodes that a word names; others are further names that would be valid."""
    if word == "all":
        return list(workers)
    found = [host for host in workers if fnmatch.fnmatch(host.node.lower(), word.lower())]
    if not found:
        raise unknown_name_error("node", word, [*others, *(host.node for host in workers)])
    return found


def configure_host(
    inventory: Inventory, host: Host, release: Release, scale: int | None, *, is_kept: bool
) -> HostConfig:
    """Return the configuration of a host for a release; see `Product.configure`."""
    if host.node:
        config = _configure_workers(inventory, host, release, scale)
    else:
        config = _configure_core(inventory, host, release)
    variables = host.further_secrets
    if is_kept:
        own = node_file_name(host.stack)
        config = replace(config, files={k: v for k, v in release.files.items() if k == own})
        # A rollback also takes back a field that was added since.
        kept = release.files.get(fields_file_name(host.stack), b"").decode("utf-8", "replace")
        variables = tuple(each for each in variables if re.search(rf'"{each}(_FILE)?"', kept))
    if not variables:
        return config
    environment: dict[str, str | None] = dict.fromkeys(variables)
    if config.secrets_in_memory:
        _require_no_use(variables, host, release)
        environment = {f"{name}_FILE": f"/run/secrets/{name.lower()}" for name in variables}
    settings = {**release.settings(host.stack), **dict(config.settings)}
    services = {
        each.name: {"environment": environment}
        for each in release.parse_compose_file(host.stack).services
        if is_own_image(inventory, interpolate(each.image, settings))
    }
    text = json.dumps({"services": services}, indent=2)
    content = f"{_FIELDS_HEADING}{text}\n".encode()
    return replace(
        config,
        secrets=(*config.secrets, *variables),
        files={**config.files, fields_file_name(host.stack): content},
    )


def _require_no_use(variables: Sequence[str], host: Host, release: Release) -> None:
    """Refuse a compose file that passes a secret itself: Docker would keep it on the disk."""
    content = str(compose_yaml.load(release.compose_content(host.stack)))
    for name in variables:
        if re.search(rf"\b{name}\b", content):
            raise ConfigurationError(
                f"{compose_file_name(host.stack)} uses {name}, so Docker would keep it on the "
                "host's disk, in spite of secrets.delivery tmpfs",
                hint="Let the service read it from a file, as docs/secrets.md describes.",
            )


def is_own_image(inventory: Inventory, image: str) -> bool:
    """Return whether an image, with any tag, holds our own programs."""
    own = parse_image_name(inventory.image)
    return parse_image_name(image).repository == own.repository


def _configure_core(inventory: Inventory, host: Host, release: Release) -> HostConfig:
    core, is_external = inventory.core, inventory.core.nfs == "external"
    profiles, ports = () if is_external else (NFS_PROFILE,), core.ports.model_dump().items()
    return HostConfig(
        host=host,
        settings=(
            ("IMAGE_TAG", release.tag),
            ("IMAGE_NAME", inventory.image),
            ("NFS_IMAGE_NAME", inventory.nfs_image),
            ("SHARED_HOST_PATH", core.shared_directory),
            ("CORE_BIND_ADDRESS", core.bind_address),
            ("CORE_PUBLIC_ADDRESS", core.public_address),
            *((f"{name.upper()}_PORT", str(port)) for name, port in ports),
            ("POSTGRES_MAX_CONNECTIONS", str(max_connections(inventory))),
            ("COMPOSE_PROFILES", ",".join(profiles)),
            # Compose does not read mounted files. These hashes change if one of them changes.
            ("PROMETHEUS_CONFIG_HASH", release.digest(MONITORING, except_below=GRAFANA)),
            ("GRAFANA_CONFIG_HASH", release.digest(GRAFANA)),
        ),
        secrets=CORE_SECRETS,
        apply_secrets=(VERIFIER,),
        shared_directory=core.shared_directory,
        is_share_mounted=is_external,
        is_share_external=is_external,
        container_uid=CONTAINER_UID,
        secrets_in_memory=inventory.secrets.delivery == "tmpfs",
        scale_profiles=profiles,
        unwanted=((NFS_SERVER, "core.nfs is external"),) if is_external else (),
        max_clock_skew_s=CLOCK_LEEWAY.total_seconds(),
        rank=0,
        peers=_names(node.host for node in inventory.workers.values()),
    )


def _configure_workers(
    inventory: Inventory, host: Host, release: Release, scale: int | None
) -> HostConfig:
    node, core_host, ports = inventory.workers[host.node], inventory.core.host, inventory.core.ports
    counts = dict.fromkeys(node.counts, scale) if scale else node.counts
    return HostConfig(
        host=host,
        settings=(
            ("IMAGE_TAG", release.tag),
            ("IMAGE_NAME", inventory.image),
            ("SHARED_HOST_PATH", node.shared_directory),
            ("WORKER_HOSTNAME", node.host),
            ("WORKER_BIND_ADDRESS", node.bind_address),
            ("KTRDR_API_URL", inventory.api_url),
            ("DB_HOST", core_host),
            ("DB_PORT", str(ports.postgres)),
            ("OTLP_ENDPOINT", f"http://{core_host}:{ports.otlp}"),
        ),
        secrets=WORKER_SECRETS,
        apply_secrets=(),
        shared_directory=node.shared_directory,
        is_share_mounted=True,
        is_share_external=inventory.core.nfs == "external",
        container_uid=CONTAINER_UID,
        secrets_in_memory=inventory.secrets.delivery == "tmpfs",
        scale_profiles=select_profiles(counts),
        max_clock_skew_s=CLOCK_LEEWAY.total_seconds(),
        rank=1,
        peers=_names([core_host, urlsplit(inventory.api_url).hostname or ""]),
        files=node_files(node, counts, release.parse_compose_file(host.stack).names),
        is_often_off=node.skip_unreachable,
        required_url=f"{inventory.api_url.rstrip('/')}/api/v1/health",
    )


def _names(hosts: Iterable[str]) -> tuple[str, ...]:
    """Return the hosts that are not addresses, each once."""
    names = dict.fromkeys(hosts)
    return tuple(name for name in names if not re.fullmatch(r"[0-9.]*|.*:.*", name))
