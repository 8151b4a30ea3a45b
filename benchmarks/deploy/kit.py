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

from ktrdr.deployment.homelab import host_config as sites
from ktrdr.deployment.homelab.host_config import Site
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.homelab.inventory_file import load
from ktrdr.deployment.homelab.secret_steps import FORMER_TOKEN_SECRET
from ktrdr.deployment.releases.archive import pack_files
from ktrdr.deployment.releases.checkout import Checkout
from ktrdr.deployment.releases.release import Target, compose_file, env_file
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
    inventory = load(ROOT / "deploy/inventory.yml", shown_as="inventory", environ={})
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
    checkout = Checkout(ROOT)
    for node in NODES:
        target: Target = "core" if node.key == "core" else "workers"
        release = checkout.release(target, tag)
        if target == "core":
            site = sites.core(inventory, release)
        else:
            site = sites.worker_node(inventory, node.key, release)
        place = directory / node.key
        place.mkdir(parents=True)
        # Empty where nothing was rotated, which Compose takes for another thing than unset.
        carried = [(name, "") for name in FORMER_TOKEN_SECRET if target == "core"]
        settings = dict([*site.settings, *carried])
        exports = [f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()]
        (place / "settings").write_text("".join(exports))
        (place / "files.tgz").write_bytes(pack_files(release.files))
        yield (
            node.key,
            {
                "name": site.host,
                "workdir": site.workdir,
                "project": site.project,
                "compose": compose_file(target),
                "env": env_file(target),
                "database": target == "core",
                "settings": settings,
                "secrets": _secrets(site, node.key),
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


def _secrets(site: Site, key: str) -> dict[str, str]:
    """By variable, the field of the vault."""
    return {name: _FIELDS.get(name) or _token_field(key) for name in site.secrets}


def _token_field(key: str) -> str:
    return f"worker_token_{key.lower()}"
