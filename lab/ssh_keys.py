"""SSH keys of operator and hosts, and the SSH configuration with the real host names."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from lab.config import BARE_NODE, NODES, STATE, Node
from lab.shell import run

DIRECTORY: Final = STATE / "ssh"
CONFIG: Final = DIRECTORY / "config"
_OPERATOR: Final = DIRECTORY / "id_ed25519"
_KNOWN_HOSTS: Final = DIRECTORY / "known_hosts"


def directory_of(node: Node) -> Path:
    """Return the directory with a host's key and its authorized keys, which the host mounts."""
    return node.directory / "ssh"


def ensure() -> None:
    """Create missing keys, and write the configuration."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    _generate_key(_OPERATOR, "operator")
    known_hosts = []
    for node in (*NODES, BARE_NODE):
        directory = directory_of(node)
        directory.mkdir(parents=True, exist_ok=True)
        _generate_key(directory / "host_key", node.key)
        shutil.copy(_OPERATOR.with_suffix(".pub"), directory / "authorized_keys")
        key = " ".join((directory / "host_key.pub").read_text().split()[:2])
        known_hosts.append(f"{','.join(node.names)} {key}\n")
    _KNOWN_HOSTS.write_text("".join(known_hosts))
    CONFIG.write_text("\n".join(map(_config_section, (*NODES, BARE_NODE))))


def _generate_key(path: Path, comment: str) -> None:
    if not path.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab {comment}", "-f", str(path))


def _config_section(node: Node) -> str:
    return f"""Host {" ".join(node.names)}
    HostName {node.address}
    User root
    IdentityFile "{_OPERATOR}"
    IdentitiesOnly yes
    UserKnownHostsFile "{_KNOWN_HOSTS}"
    GlobalKnownHostsFile /dev/null
    HostKeyAlias {node.names[0]}
    StrictHostKeyChecking yes
"""
