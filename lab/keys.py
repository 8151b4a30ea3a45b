"""SSH keys of operator and hosts, and the configuration that maps real names to local ports."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from lab.place import NODES, STATE, Node
from lab.shell import run

DIRECTORY: Final = STATE / "ssh"
CONFIG: Final = DIRECTORY / "config"
_OPERATOR: Final = DIRECTORY / "id_ed25519"
_KNOWN_HOSTS: Final = DIRECTORY / "known_hosts"


def directory_of(node: Node) -> Path:
    """What a host has mounted: its own key, and whom it lets in."""
    return DIRECTORY / node.key


def ensure() -> None:
    """Makes the keys once, and writes the configuration anew."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    _generate(_OPERATOR, "operator")
    known = []
    for node in NODES:
        place = directory_of(node)
        place.mkdir(exist_ok=True)
        _generate(place / "host_key", node.key)
        shutil.copy(_OPERATOR.with_suffix(".pub"), place / "authorized_keys")
        key = " ".join((place / "host_key.pub").read_text().split()[:2])
        known.append(f"{','.join(node.names)} {key}\n")
    _KNOWN_HOSTS.write_text("".join(known))
    CONFIG.write_text("\n".join(map(_section, NODES)))


def _generate(path: Path, comment: str) -> None:
    if not path.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab {comment}", "-f", str(path))


def _section(node: Node) -> str:
    return f"""Host {" ".join(node.names)}
    HostName 127.0.0.1
    Port {node.ssh_port}
    User root
    IdentityFile "{_OPERATOR}"
    IdentitiesOnly yes
    UserKnownHostsFile "{_KNOWN_HOSTS}"
    GlobalKnownHostsFile /dev/null
    HostKeyAlias {node.names[0]}
    StrictHostKeyChecking yes
"""
