"""What the rivals are given: the very files and settings that ktrdr brings to each host.

They are made by ktrdr's own pure functions, so that all have the same job, and Compose sees the
same configuration whoever was there last: what is no change for one is none for any other.
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
from ktrdr.deployment.releases.release import Target, compose_file_name, env_file_name
from ktrdr.deployment.scripts.release import archive
from ktrdr.deployment.scripts.rotation import CARRIED_OVER
from ktrdr.secret import Secret
from ktrdr.tokens import mint_for_node
from lab import vault
from lab.place import ITEM, NODES, ROOT, VAULT

# The vault's field behind each secret; the token of a node's workers stands beside them there.
_FIELDS: Mapping[str, str] = {
    "DB_USER": "db_username",
    "DB_PASSWORD": "db_password",
    "JWT_SECRET": "jwt_secret",
    "GF_ADMIN_PASSWORD": "grafana_password",
}


@dataclass(frozen=True)
class Kit:
    """A directory for one image tag.

    Attributes:
        directory: `hosts` names the hosts for a shell, `ansible.json` for Ansible, `kit.json` for
            all else; each host has `settings` (lines of shell) and `files.tgz` in its directory.
        tag: The image that is to run.
    """

    directory: Path
    tag: str


def make(directory: Path, tag: str) -> Kit:
    """Writes a kit."""
    inventory = load_inventory(ROOT / "deploy/inventory.yml", shown_as="inventory", environ={})
    described = dict(_hosts(directory, inventory, tag))
    (directory / "kit.json").write_text(json.dumps(described, indent=2))
    lines = [
        f"{key} {it['name']} {it['workdir']} {it['project']} {it['compose']} {it['env']}\n"
        for key, it in described.items()
    ]
    (directory / "hosts").write_text("".join(lines))
    (directory / "ansible.json").write_text(json.dumps(_for_ansible(directory, described)))
    return Kit(directory, tag)


def write_vault(path: Path) -> None:
    """The lab's vault and, beside its fields, the token of each node's workers."""
    fields = {name: vault.field(name) for name in (*_FIELDS.values(), "ghcr_token")}
    signing, now = Secret(fields["jwt_secret"]), datetime.now(UTC)
    for node in NODES[1:]:
        fields[_token_field(node.key)] = mint_for_node(signing, node.names[0], now=now).reveal()
    vault.write(path, fields)


def _hosts(directory: Path, inventory: Inventory, tag: str) -> Iterator[tuple[str, dict[str, Any]]]:
    checkout, product = Checkout(ROOT), Homelab(inventory)
    hosts = {host.node or host.name: host for host in product.hosts}
    for node in NODES:
        target: Target = "core" if node.key == "core" else "workers"
        release = checkout.load_release(target, tag)
        config = product.configure(hosts[node.key], release)
        host_directory = directory / node.key
        host_directory.mkdir(parents=True)
        # Empty where nothing was rotated, which Compose takes for another thing than unset.
        carried = [(name, "") for name in CARRIED_OVER if target == "core"]
        settings = dict([*config.settings, *carried])
        exports = [f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()]
        (host_directory / "settings").write_text("".join(exports))
        (host_directory / "files.tgz").write_bytes(archive(release.files))
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


def _for_ansible(directory: Path, described: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    hosts = {
        it["name"]: {"kit": it, "directory": str(directory / key)} for key, it in described.items()
    }
    return {"all": {"hosts": hosts}}


def _secrets(config: HostConfig, key: str) -> dict[str, str]:
    """By variable, the field of the vault."""
    return {name: _FIELDS.get(name) or _token_field(key) for name in config.secrets}


def _token_field(key: str) -> str:
    return f"worker_token_{key.lower()}"
