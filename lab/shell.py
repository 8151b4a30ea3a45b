"""Runs programs, and turns their failure into one readable error."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from lab.place import ROOT, STATE
from lab.report import LabError


def run(
    *command: str,
    env: Mapping[str, str] | None = None,
    given: bytes | None = None,
    check: bool = True,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs a program and gives what it wrote.

    Raises:
        LabError: It failed, and ``check`` is set; its last lines are part of the message.
    """
    try:
        done = subprocess.run(
            command,
            env=env,
            input=given,
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


def works(*command: str, timeout: float = 30) -> bool:
    """Whether a program exits with 0."""
    try:
        return run(*command, check=False, timeout=timeout).returncode == 0
    except LabError:
        return False


def log_file(name: str) -> Path:
    """A file for what a long-running program writes."""
    path = STATE / "log" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def wait_until(what: str, condition: Callable[[], bool], seconds: float = 60) -> None:
    """Polls until a condition holds.

    Raises:
        LabError: It did not within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"not seen within {seconds:.0f} s: {what}")
        time.sleep(0.1)
