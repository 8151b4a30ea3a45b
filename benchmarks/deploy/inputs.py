"""Inputs of the contenders: the files and settings that ktrdr transfers to each host.

ktrdr's own pure functions create them, so that all contenders do the same job and Compose sees the
same configuration from each: a deploy without changes is one for every contender.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.homelab.inventory_file import load_inventory
from ktrdr.deployment.hosts.host import HostConfig
from ktrdr.deployment.releases.checkout import Checkout
from ktrdr.deployment.releases.release import (
    Target,
    compose_file_name,
    env_file_name,
    pack_archive,
)
from ktrdr.secret import Secret
from ktrdr.tokens import create_node_token
from lab import vault
from lab.config import ITEM, NODES, ROOT, VAULT

# The vault's field of each secret. The vault also contains the token of each node's workers.
_FIELDS: Mapping[str, str] = {
    "DB_USER": "db_username",
    "DB_PASSWORD": "db_password",
    "JWT_SECRET": "jwt_secret",
    "GF_ADMIN_PASSWORD": "grafana_password",
}


@dataclass(frozen=True)
class DeployInputs:
    """Directory with the inputs for one image tag.

    Attributes:
        directory: `hosts` lists the hosts for a shell, `ansible.json` for Ansible, `inputs.json`
            for the others. Each host's directory has `settings` (lines of shell) and `files.tgz`.
        tag: Image tag to deploy.
    """

    directory: Path
    tag: str


def write_inputs(directory: Path, tag: str) -> DeployInputs:
    """Write the inputs for an image tag."""
    # The hosts have a share, as the lab's own environment says.
    inventory = load_inventory(
        ROOT / "deploy/inventory.yml",
        shown_as="inventory",
        environ={"KTRDR_INVENTORY_CORE_NFS": "external"},
    )
    hosts = dict(_write_hosts(directory, inventory, tag))
    (directory / "inputs.json").write_text(json.dumps(hosts, indent=2))
    columns = ("name", "workdir", "project", "compose", "env")
    lines = [
        " ".join([key, *(host[column] for column in columns)]) + "\n" for key, host in hosts.items()
    ]
    (directory / "hosts").write_text("".join(lines))
    (directory / "ansible.json").write_text(json.dumps(_ansible_inventory(directory, hosts)))
    return DeployInputs(directory, tag)


def write_vault(path: Path) -> None:
    """Write the lab's vault, with the additional token of each node's workers."""
    fields = {name: vault.read_field(name) for name in (*_FIELDS.values(), "ghcr_token")}
    jwt_secret, now = Secret(fields["jwt_secret"]), datetime.now(UTC)
    for node in NODES[1:]:
        fields[_token_field(node.key)] = create_node_token(
            jwt_secret, node.names[0], now=now
        ).reveal()
    vault.write_file(path, fields)


def _write_hosts(
    directory: Path, inventory: Inventory, tag: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    checkout, product = Checkout(ROOT), Homelab(inventory)
    hosts = {host.short_name: host for host in product.hosts}
    for node in NODES:
        target: Target = "core" if node.key == "core" else "workers"
        release = checkout.load_release(target, tag)
        config = product.configure(hosts[node.key], release)
        host_directory = directory / node.key
        host_directory.mkdir(parents=True)
        # Empty without a rotation; Compose treats empty and unset variables differently.
        carried = [(name, "") for name in product.script_extensions(config.host).carried_secrets]
        settings = dict([*config.settings, *carried])
        exports = [f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()]
        (host_directory / "settings").write_text("".join(exports))
        (host_directory / "files.tgz").write_bytes(pack_archive(release.files))
        yield (
            node.key,
            {
                "name": config.host.address,
                "workdir": config.host.workdir,
                "project": config.host.project,
                "compose": compose_file_name(target),
                "env": env_file_name(target),
                "database": target == "core",
                "settings": settings,
                "secrets": _secrets(config, node.key),
                "registry": inventory.registry,
                "registry_user": inventory.registry_user,
                "vault": VAULT,
                "item": ITEM,
            },
        )


def _ansible_inventory(directory: Path, hosts: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    variables = {
        host["name"]: {"inputs": host, "directory": str(directory / key)}
        for key, host in hosts.items()
    }
    return {"all": {"hosts": variables}}


def _secrets(config: HostConfig, key: str) -> dict[str, str]:
    """Return the vault's field of each variable."""
    return {name: _FIELDS.get(name) or _token_field(key) for name in config.secrets}


def _token_field(key: str) -> str:
    return f"worker_token_{key.lower()}"
