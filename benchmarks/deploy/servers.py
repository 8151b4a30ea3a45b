"""A second SSH server on each host of the lab, which writes down every connection and command.

All contenders use it. It offers SFTP as well, which the lab's own does not, and which pyinfra and
Ansible want for files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from lab import containers, ssh_keys
from lab.config import NODES, Node

_PORT: Final = 2222
_LOG: Final = "/run/bench-sshd.log"
_PID: Final = "/run/bench-sshd.pid"
_STOP: Final = f"[ ! -e {_PID} ] || kill $(cat {_PID}) 2>/dev/null || :; rm -f {_PID} {_LOG}"


class Count(NamedTuple):
    """What a deploy cost: logins, and remote commands over them."""

    connections: int
    commands: int


@dataclass(frozen=True)
class Servers:
    """The way to them.

    Attributes:
        config: An ssh configuration in which the hosts' names lead to them.
        known_hosts: Their keys by address, for what knows no alias.
    """

    config: Path
    known_hosts: Path

    def count(self) -> Count:
        """What there was since the last time."""
        take = f"cat {_LOG}; : >{_LOG}"
        said = "".join(containers.execute(node.container, "sh", "-c", take) for node in NODES)
        return Count(said.count("Accepted publickey"), said.count("Starting session"))


@contextmanager
def running(directory: Path) -> Iterator[Servers]:
    """Servers that end with the block, and their client configuration in a directory."""
    found = Servers(directory / "ssh_config", directory / "known_hosts")
    config = ssh_keys.CONFIG.read_text()
    with found.known_hosts.open("w") as known:
        for node in NODES:
            _start(node)
            there = containers.inspect(node.container)
            assert there, f"there is no container {node.container}"
            address = next(iter(there["NetworkSettings"]["Networks"].values()))["IPAddress"]
            published = f"HostName 127.0.0.1\n    Port {node.ssh_port}\n"
            assert published in config, "the lab's ssh configuration is not what it was"
            config = config.replace(published, f"HostName {address}\n    Port {_PORT}\n")
            public = (ssh_keys.directory_of(node) / "host_key.pub").read_text().split()[:2]
            known.write(f"[{address}]:{_PORT} {' '.join(public)}\n")
    found.config.write_text(config)
    try:
        yield found
    finally:
        for node in NODES:
            containers.execute(node.container, "sh", "-c", _STOP, check=False)


def _start(node: Node) -> None:
    # One may be there of a run that was killed.
    containers.execute(node.container, "sh", "-c", _STOP)
    options = ("LogLevel=VERBOSE", f"PidFile={_PID}", "Subsystem=sftp internal-sftp")
    containers.execute(
        *(node.container, "/usr/sbin/sshd", "-E", _LOG, "-p", str(_PORT)),
        *(word for option in options for word in ("-o", option)),
    )
