"""The lock of a host over a real SSH connection: nothing can leave it behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ktrdr.deployment.hosts.history import RECORDS
from ktrdr.deployment.hosts.host import DeployId, Host
from ktrdr.deployment.hosts.lock import (
    HostLock,
    LockOwner,
    break_lock,
    fetch_lock_owner,
    hold_lock,
)
from ktrdr.deployment.scripts.script import Script, render
from ktrdr.deployment.ssh.program import SshProgram
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import Locked
from tests.integration.sshd import Sshd, wait_until
from tests.unit.deployment.shell import write_script

SINCE = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
Connect = Callable[[], SshTransport]


def owner(number: int = 1) -> LockOwner:
    deploy = DeployId(f"release-{number}", f"ada{number}@laptop", SINCE)
    return LockOwner(deploy, "deploy 'sha-abc1234' \\ é")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    workdir = str(tmp_path / "work dir's")
    return Host("core", "node", workdir, "core", "ktrdr-core", "/run/ktrdr/ktrdr-core")


@pytest.fixture
def connect(sshd: Sshd) -> Iterator[Connect]:
    """Return a function that creates another transport to the host."""
    transports: list[SshTransport] = []

    def create() -> SshTransport:
        transports.append(SshTransport(SshProgram(config=sshd.client_config())))
        return transports[-1]

    yield create
    for transport in transports:
        transport.close()


def is_free(connect: Connect, host: Host) -> bool:
    return fetch_lock_owner(connect(), host) is None


def test_a_lock_names_its_owner_while_it_is_held_and_is_free_otherwise(
    connect: Connect, host: Host
) -> None:
    assert is_free(connect, host)
    with hold_lock(connect(), host, owner()) as lock:
        lock.ensure_held()
        assert fetch_lock_owner(connect(), host) == owner()
    assert is_free(connect, host)


def test_the_error_of_a_second_owner_names_the_first(connect: Connect, host: Host) -> None:
    message = r"locked by ada1@laptop, since 2026-11-24 03:00:00 UTC: deploy"
    with (
        hold_lock(connect(), host, owner(1)),
        pytest.raises(Locked, match=message),
        hold_lock(connect(), host, owner(2)),
    ):
        pass


def test_a_waiting_owner_acquires_the_lock_when_it_becomes_free(
    connect: Connect, host: Host
) -> None:
    first = connect()
    with hold_lock(first, host, owner(1)):
        first.close()
        with hold_lock(connect(), host, owner(2), wait_s=10):
            assert fetch_lock_owner(connect(), host) == owner(2)


def test_a_script_that_requires_the_lock_runs_only_while_its_owner_holds_it(
    connect: Connect, host: Host, tmp_path: Path
) -> None:
    transport = connect()
    file = write_script(tmp_path, 'require_lock "$@"\necho changed', "lock").file
    script = render(Script(file, (host.workdir, owner().to_json())), {})

    def run_script() -> int:
        return transport.run(host.address, script, timeout_s=10).exit_code

    with hold_lock(transport, host, owner()) as lock:
        assert run_script() == 0
        assert break_lock(connect(), host) == owner()
        wait_until(lambda: not is_held(lock), "the loss is noticed")
        assert run_script() != 0
    with hold_lock(transport, host, owner(2)):
        assert run_script() != 0, "another owner holds it now"


def is_held(lock: HostLock) -> bool:
    try:
        lock.ensure_held()
    except Locked:
        return False
    return True


def test_breaking_a_free_lock_does_nothing(connect: Connect, host: Host) -> None:
    assert break_lock(connect(), host) is None


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_lock_ends_with_the_program_that_holds_it(
    sshd: Sshd, connect: Connect, host: Host, ending: signal.Signals
) -> None:
    program = textwrap.dedent(f"""
        import sys
        from datetime import UTC, datetime
        from pathlib import Path
        from ktrdr.deployment.hosts.host import DeployId, Host
        from ktrdr.deployment.hosts.lock import LockOwner, hold_lock
        from ktrdr.deployment.ssh.program import SshProgram
        from ktrdr.deployment.ssh.transport import SshTransport
        host = Host("core", "node", {host.workdir!r}, "core", "ktrdr-core", "/run/ktrdr/core")
        transport = SshTransport(SshProgram(config=Path({str(sshd.client_config())!r})))
        owner = LockOwner(DeployId("x", "me", datetime.now(UTC)), "test")
        with hold_lock(transport, host, owner):
            print("held", flush=True)
            sys.stdin.read()
    """)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        assert not is_free(connect, host)
        os.kill(process.pid, ending)
        process.wait()
    wait_until(lambda: is_free(connect, host), "the lock is free")


def test_a_lock_ends_with_the_shell_that_holds_it(connect: Connect, host: Host) -> None:
    with hold_lock(connect(), host, owner()):
        file = Path(host.workdir, RECORDS, "lock")
        os.kill(int(file.read_text().split()[0]), signal.SIGKILL)
        wait_until(lambda: is_free(connect, host), "the lock is free")


def test_a_leftover_lock_file_is_not_a_lock(connect: Connect, host: Host) -> None:
    with hold_lock(connect(), host, owner()):
        pass
    assert Path(host.workdir, RECORDS, "lock").exists()
    with hold_lock(connect(), host, owner(2)):
        assert fetch_lock_owner(connect(), host) == owner(2)
