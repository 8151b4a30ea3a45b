"""The lab's network: a bridge on this machine, and a resolver for the hosts' names."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Final

from lab.config import BARE_NODE, BRIDGE, GATEWAY, HOSTS, NODES, PREFIX_LENGTH
from lab.progress import LabError
from lab.shell import log_file, run, succeeds, wait_until

_PID_FILE: Final = HOSTS / "dnsmasq.pid"
# The kernel may pass packets of a bridge to iptables, where Docker drops what it does not know.
_FORWARD: Final = ("FORWARD", "-i", BRIDGE, "-o", BRIDGE, "-j", "ACCEPT")
# Names of the two registries, which listen on the bridge's own address.
REGISTRY_NAMES: Final = ("ghcr.io", "mirror")


def ensure() -> None:
    """Create the bridge and start the resolver.

    Raises:
        LabError: The kernel refuses the bridge, or the resolver does not start.
    """
    if not Path("/sys/class/net", BRIDGE).exists():
        run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "address", "replace", f"{GATEWAY}/{PREFIX_LENGTH}", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    if not succeeds("iptables", "--check", *_FORWARD):
        run("iptables", "--insert", *_FORWARD)
    _start_resolver()


def remove() -> None:
    """Stop the resolver and remove the bridge."""
    pid = _resolver_pid()
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
    _PID_FILE.unlink(missing_ok=True)
    run("ip", "link", "delete", BRIDGE, check=False)
    run("iptables", "--delete", *_FORWARD, check=False)


def is_healthy() -> bool:
    """Return True if the resolver answers."""
    return _resolver_pid() is not None and _answers()


def _start_resolver() -> None:
    """Start a resolver that knows only the names of the lab, and asks no other server."""
    names = {name: node.address for node in (*NODES, BARE_NODE) for name in node.names}
    names |= dict.fromkeys(REGISTRY_NAMES, GATEWAY)
    configuration = HOSTS / "dnsmasq.conf"
    lines = [
        *("no-resolv", "no-hosts", "no-poll", "bind-interfaces", "user=root", "local-ttl=60"),
        *(f"listen-address={GATEWAY}", f"pid-file={_PID_FILE}", f"log-facility={log_file('dns')}"),
        *(f"address=/{name}/{address}" for name, address in names.items()),
        # All other names do not exist.
        "address=/#/",
    ]
    text = "\n".join(lines) + "\n"
    if is_healthy() and configuration.exists() and configuration.read_text() == text:
        return
    pid = _resolver_pid()
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        wait_until("the former resolver has ended", lambda: _resolver_pid() is None, 10)
    configuration.write_text(text)
    run("dnsmasq", f"--conf-file={configuration}")
    wait_until("the resolver answers", _answers, 10)


def _resolver_pid() -> int | None:
    try:
        pid = int(_PID_FILE.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if b"dnsmasq" in command else None


def _answers() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        return probe.connect_ex((GATEWAY, 53)) == 0


def require_bridges() -> None:
    """Report a kernel on which the lab cannot work.

    Raises:
        LabError: This machine allows no bridge.
    """
    probe = f"{BRIDGE}p"
    if not succeeds("ip", "link", "add", probe, "type", "bridge"):
        raise LabError(
            "this machine allows no network bridge, which the lab's hosts need. In a container, "
            "start it with --cap-add NET_ADMIN and the other options in docs/lab.md"
        )
    run("ip", "link", "delete", probe, check=False)
