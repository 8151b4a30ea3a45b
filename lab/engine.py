"""The Docker Engine of this machine, started if it is not running."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Final

from lab.config import ROOT, STATE
from lab.progress import LabError, Progress
from lab.shell import log_file, run, succeeds

PACKAGES: Final = (
    "docker.io",
    "iptables",
    "iproute2",
    "lxc",
    "uidmap",
    "dnsmasq-base",
    "debootstrap",
    "openssh-client",
    "openssl",
    "apache2-utils",
    "ca-certificates",
    "git",
)
PID_FILE: Final = STATE / "dockerd.pid"
START_TIMEOUT_S: Final = 60


def install_packages() -> None:
    """Install the Debian packages that the lab needs."""
    needed = [] if shutil.which("dockerd") else ["docker.io"]
    run(str(ROOT / "scripts" / "apt-need"), *needed, *PACKAGES[1:])


def docker() -> str:
    """Return the Docker client: Debian's own if installed, because it supports BuildKit."""
    debian_client = "/usr/bin/docker"
    return debian_client if Path(debian_client).exists() else "docker"


def is_running() -> bool:
    """Return True if the engine answers."""
    return succeeds(docker(), "info", timeout=15)


def start(progress: Progress) -> None:
    """Start the engine unless it is running.

    Raises:
        LabError: The engine does not start.
    """
    if is_running():
        return
    with progress.step("start the Docker Engine"):
        PID_FILE.parent.mkdir(parents=True, exist_ok=True)
        # An engine that was killed leaves this file behind, and would not start again.
        Path("/var/run/docker.pid").unlink(missing_ok=True)
        log = log_file("dockerd")
        # Started through a shell, so that the engine outlives this process.
        script = 'setsid dockerd >>"$0" 2>&1 </dev/null & echo $!'
        PID_FILE.write_text(run("sh", "-c", script, str(log)).stdout.strip())
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_running():
            if not _is_dockerd(int(PID_FILE.read_text())) or time.monotonic() > deadline:
                tail = log.read_text(errors="replace").splitlines()[-3:]
                raise LabError(f"the Docker Engine does not start: {' | '.join(tail)}")
            time.sleep(0.2)


def stop() -> None:
    """Stop the engine if the lab started it and no container uses it any more."""
    # Containers that are left belong to other labs.
    if not PID_FILE.exists() or run(docker(), "ps", "--quiet", check=False).stdout.strip():
        return
    pid = int(PID_FILE.read_text())
    PID_FILE.unlink()
    if not _is_dockerd(pid):
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while _is_dockerd(pid) and time.monotonic() < deadline:
        time.sleep(0.1)


def _is_dockerd(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return b"dockerd" in command and state != "Z"
