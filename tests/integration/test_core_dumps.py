"""Core dumps: neither the CLI nor its children may write secrets to one."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

SECRET = "AGE-SECRET-KEY-OF-THIS-TEST-ALONE"
MAIN = "from ktrdr.cli.cli import main; main()"
# Stands in for the program that decrypts: reads the private key, then crashes or waits.
AGE = f"""#!{sys.executable} -IS
import os, resource, sys, time
parent = os.getppid()
key = sys.stdin.read()
if os.environ["THEN"] == "abort":
    os.abort()
print(*resource.getrlimit(resource.RLIMIT_CORE), file=open("limits", "w"), flush=True)
while os.getppid() == parent:
    time.sleep(0.1)
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with an inventory whose secrets are encrypted with age."""
    (tmp_path / "inventory.yml").write_text(
        textwrap.dedent("""
            domain: lab.test
            workers: {}
            secrets: {source: age, file: secrets.age}
        """)
    )
    (tmp_path / "secrets.age").write_text("not decrypted by this test")
    (tmp_path / "age").write_text(AGE)
    (tmp_path / "age").chmod(0o755)
    return tmp_path


def start_command(directory: Path, *command: str, then: str) -> subprocess.Popen[bytes]:
    """Start a command in a shell that allows core dumps of any size."""
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
        pytest.skip("core dumps are limited where these tests run")
    return subprocess.Popen(
        ["sh", "-c", 'ulimit -c unlimited; exec "$@"', "sh", *command],
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={
            **os.environ,
            "PATH": f"{directory}:{os.environ['PATH']}",
            "SOPS_AGE_KEY": SECRET,
            "THEN": then,
        },
    )


def ktrdr(directory: Path, *, then: str) -> subprocess.Popen[bytes]:
    words = ("secrets", "check", "--inventory", "inventory.yml")
    return start_command(directory, sys.executable, "-c", MAIN, *words, then=then)


def files_with_secret(directory: Path) -> list[str]:
    """Return the names of the files that contain the secret."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return [path.name for path in files if SECRET.encode() in path.read_bytes()]


def test_without_the_cli_a_core_dump_contains_the_secret(directory: Path) -> None:
    if not Path("/proc/sys/kernel/core_pattern").read_text().startswith("core"):
        pytest.skip("this system writes core dumps somewhere else")
    with start_command(directory, str(directory / "age"), then="abort") as crashed:
        crashed.communicate(SECRET.encode())
    assert crashed.returncode == -signal.SIGABRT
    assert files_with_secret(directory)


def test_a_child_that_crashes_with_secrets_in_memory_leaves_no_core_dump(directory: Path) -> None:
    before = set(directory.rglob("*"))
    with ktrdr(directory, then="abort") as command:
        command.communicate()
    assert command.returncode == 4
    assert set(directory.rglob("*")) == before
    assert files_with_secret(directory) == []


def test_the_cli_leaves_no_core_dump_and_its_children_cannot_raise_the_limit(
    directory: Path,
) -> None:
    with ktrdr(directory, then="wait") as command:
        limits = directory / "limits"
        deadline = time.monotonic() + 20
        while not (limits.exists() and limits.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        command.send_signal(signal.SIGABRT)
        command.communicate()
    assert command.returncode == -signal.SIGABRT
    assert limits.read_text() == "0 0\n"
    assert {path.name for path in directory.iterdir()} == {
        *("inventory.yml", "secrets.age", "age", "limits"),
    }
