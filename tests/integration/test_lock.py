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

from ktrdr.deployment.homelab.hosts import Place
from ktrdr.deployment.hosts import lock
from ktrdr.deployment.hosts.lock import Owner
from ktrdr.deployment.scripts.script import Script, render
from ktrdr.deployment.ssh.program import SshProgram
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import Locked
from tests.integration.sshd import Sshd, wait_until
from tests.unit.deployment.shell import script_of

SINCE = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)


def owner(number: int = 1) -> Owner:
    return Owner(f"release-{number}", f"ada{number}@laptop", "deploy 'sha-abc1234' \\ é", SINCE)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place("core", "", "node", str(tmp_path / "work dir's"))


@pytest.fixture
def way(sshd: Sshd) -> Iterator[Callable[[], SshTransport]]:
    made: list[SshTransport] = []

    def make() -> SshTransport:
        made.append(SshTransport(SshProgram(config=sshd.client_config())))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


def is_free(way: Callable[[], SshTransport], place: Place) -> bool:
    return lock.look(way(), place) is None


def test_a_lock_is_free_before_and_after_and_tells_its_owner_meanwhile(way, place) -> None:
    assert is_free(way, place)
    with lock.held(way(), place, owner()) as held:
        held.check()
        assert lock.look(way(), place) == owner()
    assert is_free(way, place)


def test_a_second_owner_is_refused_with_the_name_of_the_first(way, place) -> None:
    with (
        lock.held(way(), place, owner(1)),
        pytest.raises(
            Locked, match=r"locked by ada1@laptop, since 2026-11-24 03:00:00 UTC: deploy"
        ),
        lock.held(way(), place, owner(2)),
    ):
        pass


def test_whoever_waits_gets_the_lock_when_it_becomes_free(way, place) -> None:
    first = way()
    with lock.held(first, place, owner(1)):
        first.close()
        with lock.held(way(), place, owner(2), wait_s=10):
            assert lock.look(way(), place) == owner(2)


def test_a_script_that_requires_the_lock_runs_only_while_it_is_ours(way, place, tmp_path) -> None:
    transport: SshTransport = way()

    change_if_ours = script_of(tmp_path, 'require_lock "$@"\necho changed', "lock").file
    arguments = (place.workdir, owner().note())

    def change() -> int:
        script = render(Script(change_if_ours, arguments), {})
        return transport.run(place.host, script, timeout_s=10).exit_code

    with lock.held(transport, place, owner()) as held:
        assert change() == 0
        assert lock.force(way(), place) == owner()
        wait_until(lambda: not _holds(held), "the loss is noticed")
        assert change() != 0
    with lock.held(transport, place, owner(2)):
        assert change() != 0, "it is somebody else's now"


def _holds(held: lock.Held) -> bool:
    try:
        held.check()
    except Locked:
        return False
    return True


def test_forcing_a_free_lock_does_nothing(way, place) -> None:
    assert lock.force(way(), place) is None


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_lock_ends_with_the_program_that_has_it(sshd, way, place, ending) -> None:
    program = textwrap.dedent(f"""
        import sys
        from datetime import UTC, datetime
        from pathlib import Path
        from ktrdr.deployment.hosts import lock
        from ktrdr.deployment.homelab.hosts import Place
        from ktrdr.deployment.ssh.program import SshProgram
        from ktrdr.deployment.ssh.transport import SshTransport
        place = Place("core", "", "node", {place.workdir!r})
        transport = SshTransport(SshProgram(config=Path({str(sshd.client_config())!r})))
        with lock.held(transport, place, lock.Owner("x", "me", "test", datetime.now(UTC))):
            print("held", flush=True)
            sys.stdin.read()
    """)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        assert not is_free(way, place)
        os.kill(process.pid, ending)
        process.wait()
    wait_until(lambda: is_free(way, place), "the lock is free")


def test_a_lock_ends_with_the_shell_that_has_it(way, place) -> None:
    with lock.held(way(), place, owner()):
        file = Path(place.workdir, ".ktrdr/lock")
        os.kill(int(file.read_text().split()[0]), signal.SIGKILL)
        wait_until(lambda: is_free(way, place), "the lock is free")


def test_a_file_that_only_lies_there_is_no_lock(way, place) -> None:
    with lock.held(way(), place, owner()):
        pass
    assert Path(place.workdir, ".ktrdr/lock").exists()
    with lock.held(way(), place, owner(2)):
        assert lock.look(way(), place) == owner(2)
