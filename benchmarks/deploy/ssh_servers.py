"""A second SSH server on each host of the lab, which logs every connection and command.

All contenders use it. Unlike the lab's own server it offers SFTP, which pyinfra and Ansible need to
transfer files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from lab import nodes, ssh_keys
from lab.config import NODES, Node

_PORT: Final = 2222
_LOG: Final = "/run/bench-sshd.log"
_PID: Final = "/run/bench-sshd.pid"
_STOP: Final = f"[ ! -e {_PID} ] || kill $(cat {_PID}) 2>/dev/null || :; rm -f {_PID} {_LOG}"


class Count(NamedTuple):
    """Number of connections and remote commands of a deploy."""

    connections: int
    commands: int


@dataclass(frozen=True)
class SshServers:
    """The SSH servers, with the files of their clients.

    Attributes:
        config: SSH configuration with the names of the hosts.
        known_hosts: Host keys by address, for programs without support for aliases.
    """

    config: Path
    known_hosts: Path

    def count(self) -> Count:
        """Return the counts since the last call."""
        script = f"cat {_LOG}; : >{_LOG}"
        log = "".join(nodes.execute(node, "sh", "-c", script) for node in NODES)
        return Count(log.count("Accepted publickey"), log.count("Starting session"))


@contextmanager
def run_servers(directory: Path) -> Iterator[SshServers]:
    """Run the servers during the block, with their client configuration in a directory."""
    servers = SshServers(directory / "ssh_config", directory / "known_hosts")
    config = ssh_keys.CONFIG.read_text()
    with servers.known_hosts.open("w") as known_hosts:
        for node in NODES:
            _start(node)
            line = f"HostName {node.address}\n"
            assert line in config, "the lab's ssh configuration has an unknown form"
            config = config.replace(line, f"{line}    Port {_PORT}\n")
            public_key = (ssh_keys.directory_of(node) / "host_key.pub").read_text().split()[:2]
            known_hosts.write(f"[{node.address}]:{_PORT} {' '.join(public_key)}\n")
    servers.config.write_text(config)
    try:
        yield servers
    finally:
        for node in NODES:
            nodes.execute(node, "sh", "-c", _STOP, check=False)


def _start(node: Node) -> None:
    # A killed run may have left a server behind.
    nodes.execute(node, "sh", "-c", _STOP)
    options = ("LogLevel=VERBOSE", f"PidFile={_PID}", "Subsystem=sftp internal-sftp")
    nodes.execute(
        node,
        *("/usr/sbin/sshd", "-E", _LOG, "-p", str(_PORT)),
        *(word for option in options for word in ("-o", option)),
    )
