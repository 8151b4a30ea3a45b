"""Helpers that run scripts on the test's SSH server and watch processes."""

from __future__ import annotations

from pathlib import Path

from ktrdr.deployment.scripts.script import SENTINEL
from ktrdr.deployment.ssh.interface import Transport
from ktrdr.secret import Secret
from tests.integration.sshd import wait_until

END = f"echo {SENTINEL}\n"


def run(transport: Transport, script: str, timeout_s: float = 20) -> str:
    return transport.run("node", Secret(script + "\n" + END), timeout_s=timeout_s).stdout


def is_running(pid: int) -> bool:
    """Return True if the process is alive. A zombie is not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def wait_until_ended(pid: int) -> None:
    wait_until(lambda: not is_running(pid), f"process {pid} has ended")
