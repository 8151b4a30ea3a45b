"""The lock of a host, over a real SSH connection: nothing can leave it behind."""

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

from ktrdr.deployment.hosts.host import DeployId, Host
from ktrdr.deployment.hosts.lock import (
    HostLock,
    LockOwner,
    break_lock,
    fetch_lock_owner,
    hold_lock,
)
from ktrdr.deployment.scripts import lock as locking
from ktrdr.deployment.scripts.script import Script, render
from ktrdr.deployment.ssh.program import SshProgram
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import Locked
from tests.integration.sshd import Sshd, wait_until

SINCE = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)


def owner(number: int = 1) -> LockOwner:
    deploy_id = DeployId(f"release-{number}", f"ada{number}@laptop", SINCE)
    return LockOwner(deploy_id, "deploy 'sha-abc1234' \\ é")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host("core", "node", str(tmp_path / "work dir's"), "core", "ktrdr-core")


@pytest.fixture
def way(sshd: Sshd) -> Iterator[Callable[[], SshTransport]]:
    made: list[SshTransport] = []

    def make() -> SshTransport:
        made.append(SshTransport(SshProgram(config=sshd.client_config())))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


def is_free(way: Callable[[], SshTransport], host: Host) -> bool:
    return fetch_lock_owner(way(), host) is None


def test_a_lock_is_free_before_and_after_and_tells_its_owner_meanwhile(way, host) -> None:
    assert is_free(way, host)
    with hold_lock(way(), host, owner()) as held:
        held.ensure_held()
        assert fetch_lock_owner(way(), host) == owner()
    assert is_free(way, host)


def test_a_second_owner_is_refused_with_the_name_of_the_first(way, host) -> None:
    with (
        hold_lock(way(), host, owner(1)),
        pytest.raises(
            Locked, match=r"locked by ada1@laptop, since 2026-11-24 03:00:00 UTC: deploy"
        ),
        hold_lock(way(), host, owner(2)),
    ):
        pass


def test_whoever_waits_gets_the_lock_when_it_becomes_free(way, host) -> None:
    first = way()
    with hold_lock(first, host, owner(1)):
        first.close()
        with hold_lock(way(), host, owner(2), wait_s=10):
            assert fetch_lock_owner(way(), host) == owner(2)


def test_a_script_that_requires_the_lock_runs_only_while_it_is_ours(way, host) -> None:
    transport: SshTransport = way()

    def change(lines: str) -> int:
        script = render(Script(f"{lines}\necho changed"), {})
        return transport.run(host.address, script, timeout_s=10).exit_code

    ours = locking.require(host.workdir, owner().to_json())
    with hold_lock(transport, host, owner()) as held:
        assert change(ours) == 0
        assert break_lock(way(), host) == owner()
        wait_until(lambda: not _holds(held), "the loss is noticed")
        assert change(ours) != 0
    with hold_lock(transport, host, owner(2)):
        assert change(ours) != 0, "it is somebody else's now"


def _holds(held: HostLock) -> bool:
    try:
        held.ensure_held()
    except Locked:
        return False
    return True


def test_forcing_a_free_lock_does_nothing(way, host) -> None:
    assert break_lock(way(), host) is None


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_lock_ends_with_the_program_that_has_it(sshd, way, host, ending) -> None:
    program = textwrap.dedent(f"""
        import sys
        from datetime import UTC, datetime
        from pathlib import Path
        from ktrdr.deployment.hosts.host import DeployId, Host
        from ktrdr.deployment.hosts.lock import LockOwner, hold_lock
        from ktrdr.deployment.ssh.program import SshProgram
        from ktrdr.deployment.ssh.transport import SshTransport
        host = Host("core", "node", {host.workdir!r}, "core", "ktrdr-core")
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
        assert not is_free(way, host)
        os.kill(process.pid, ending)
        process.wait()
    wait_until(lambda: is_free(way, host), "the lock is free")


def test_a_lock_ends_with_the_shell_that_has_it(way, host) -> None:
    with hold_lock(way(), host, owner()):
        file = Path(host.workdir, ".ktrdr/lock")
        os.kill(int(file.read_text().split()[0]), signal.SIGKILL)
        wait_until(lambda: is_free(way, host), "the lock is free")


def test_a_file_that_only_lies_there_is_no_lock(way, host) -> None:
    with hold_lock(way(), host, owner()):
        pass
    assert Path(host.workdir, ".ktrdr/lock").exists()
    with hold_lock(way(), host, owner(2)):
        assert fetch_lock_owner(way(), host) == owner(2)
