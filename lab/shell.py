"""Run programs, and convert failures into readable errors."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from lab.config import ROOT, STATE
from lab.progress import LabError


def run(
    *command: str,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    check: bool = True,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program; return its exit code and output.

    Raises:
        LabError: The program failed, and ``check`` is set. The message contains its last lines.
    """
    try:
        done = subprocess.run(
            command,
            env=env,
            input=stdin,
            cwd=ROOT,
            capture_output=True,
            check=False,
            timeout=timeout,
        )
    except FileNotFoundError as exc:
        raise LabError(f"{command[0]} is not installed") from exc
    except subprocess.TimeoutExpired as exc:
        raise LabError(f"`{shlex.join(command)[:120]}` took longer than {timeout:.0f} s") from exc
    out, err = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    if check and done.returncode:
        tail = " | ".join((err or out).strip().splitlines()[-8:])
        raise LabError(f"`{shlex.join(command)[:160]}` failed: {tail}")
    return subprocess.CompletedProcess(command, done.returncode, out, err)


def succeeds(*command: str, timeout: float = 30) -> bool:
    """Return True if a program exits with 0."""
    try:
        return run(*command, check=False, timeout=timeout).returncode == 0
    except LabError:
        return False


def log_file(name: str) -> Path:
    """Return the log file of a long-running program."""
    path = STATE / "log" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def wait_until(description: str, condition: Callable[[], bool], seconds: float = 60) -> None:
    """Poll until a condition is true.

    Raises:
        LabError: The condition was not true within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"timeout after {seconds:.0f} s, waiting until {description}")
        time.sleep(0.1)
