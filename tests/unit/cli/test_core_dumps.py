"""What holds secrets in its memory leaves none of them in a core dump."""

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
# Stands in for the program that decrypts: it is given the private key, and then crashes, or waits.
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
def host(tmp_path: Path) -> Path:
    """A directory with an inventory whose secrets are encrypted with age."""
    (tmp_path / "inventory.yml").write_text(
        textwrap.dedent("""
            domain: lab.test
            workers: {}
            secrets: {source: age, file: secrets.age}
        """)
    )
    (tmp_path / "secrets.age").write_text("nothing that anybody could read")
    (tmp_path / "age").write_text(AGE)
    (tmp_path / "age").chmod(0o755)
    return tmp_path


def started(host: Path, *command: str, then: str) -> subprocess.Popen[bytes]:
    """A command in a shell of an operator who lets programs dump as much as they like."""
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
        pytest.skip("core dumps are limited where these tests run")
    return subprocess.Popen(
        ["sh", "-c", 'ulimit -c unlimited; exec "$@"', "sh", *command],
        cwd=host,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={
            **os.environ,
            "PATH": f"{host}:{os.environ['PATH']}",
            "SOPS_AGE_KEY": SECRET,
            "THEN": then,
        },
    )


def ktrdr(host: Path, *, then: str) -> subprocess.Popen[bytes]:
    words = ("secrets", "check", "--inventory", "inventory.yml")
    return started(host, sys.executable, "-c", MAIN, *words, then=then)


def found_in(host: Path) -> list[str]:
    """The files that hold the secret."""
    files = (path for path in host.rglob("*") if path.is_file())
    return [path.name for path in files if SECRET.encode() in path.read_bytes()]


def test_without_the_cli_the_secret_would_be_found(host: Path) -> None:
    if not Path("/proc/sys/kernel/core_pattern").read_text().startswith("core"):
        pytest.skip("this system writes core dumps somewhere else")
    with started(host, str(host / "age"), then="abort") as crashed:
        crashed.communicate(SECRET.encode())
    assert crashed.returncode == -signal.SIGABRT
    assert found_in(host)


def test_a_program_that_crashes_with_secrets_in_its_memory_leaves_no_dump(host: Path) -> None:
    before = set(host.rglob("*"))
    with ktrdr(host, then="abort") as command:
        command.communicate()
    assert command.returncode == 4
    assert set(host.rglob("*")) == before
    assert found_in(host) == []


def test_neither_does_the_cli_itself_and_no_child_can_have_it_otherwise(host: Path) -> None:
    with ktrdr(host, then="wait") as command:
        limits = host / "limits"
        deadline = time.monotonic() + 20
        while not (limits.exists() and limits.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        command.send_signal(signal.SIGABRT)
        command.communicate()
    assert command.returncode == -signal.SIGABRT
    assert limits.read_text() == "0 0\n"
    assert {path.name for path in host.iterdir()} == {
        *("inventory.yml", "secrets.age", "age", "limits"),
    }
