"""What a host remembers, and its lock, as the real scripts of a real shell write and read them."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr.deployment.hosts.history import (
    DeployKind,
    DeployOutcome,
    HistoryEntry,
    parse_history,
)
from ktrdr.deployment.hosts.host import DeployId
from ktrdr.deployment.hosts.lock import LockOwner, parse_lock_file, parse_lock_state
from ktrdr.deployment.releases import release as releases
from ktrdr.deployment.releases.release import Release
from ktrdr.deployment.scripts import history, lock
from ktrdr.deployment.scripts.script import Script, render

BEGAN = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
ENTRY = HistoryEntry(
    deploy=DeployId("r1", "Zoë's \\ $laptop", BEGAN),
    kind=DeployKind.DEPLOY,
    service="all",
    tag="sha-0000001",
    commit=None,
    configuration="c1",
    outcome=DeployOutcome.FAILED,
    duration_s=1.5,
    reason="“it” said: `no`\nand no more — 日本",
)


def later(deploy_id: str) -> HistoryEntry:
    deploy = replace(ENTRY.deploy, id=deploy_id)
    return replace(ENTRY, deploy=deploy, outcome=DeployOutcome.DEPLOYED, reason="")


LATER = later("r2")


def sh(body: str, *, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    script = render(Script(body), {}).reveal()
    return subprocess.run(
        ["sh", "-s"], input=script.encode(), capture_output=True, timeout=30, check=check
    )


def read_back(workdir: str) -> tuple[HistoryEntry, ...]:
    """The history as the transport hands it over: what is no text is replaced."""
    out = sh(history.read(workdir)).stdout.decode("utf-8", "replace")
    return parse_history(out.splitlines()[:-1])


# -------------------------------------------------------------------------------- the history


def test_events_are_read_as_they_were_appended(tmp_path) -> None:
    workdir = str(tmp_path / "work dir's")
    for line in (
        ENTRY.begun_event(),
        ENTRY.ended_event(),
        LATER.begun_event(),
        LATER.ended_event(),
    ):
        sh(history.append(workdir, line))
    assert read_back(workdir) == (ENTRY, LATER)
    last = sh(history.read(workdir, last=2)).stdout.decode().splitlines()
    assert last[:-1] == [LATER.begun_event(), LATER.ended_event()]


def test_a_host_without_a_history_has_an_empty_one(tmp_path) -> None:
    assert read_back(str(tmp_path)) == ()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int]:
    """A history as the script has written it, and where its last event begins."""
    workdir = str(tmp_path_factory.mktemp("whole"))
    for line in (LATER.begun_event(), LATER.ended_event(), ENTRY.begun_event()):
        sh(history.append(workdir, line))
    before = Path(history.path(workdir)).stat().st_size
    sh(history.append(workdir, ENTRY.ended_event()))
    return Path(history.path(workdir)).read_bytes(), before


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_an_append_that_is_cut_off_at_any_byte_leaves_a_history_that_goes_on(whole, data) -> None:
    """Whatever part of the last event was written, all others are read, and later ones too."""
    content, before = whole
    cut = data.draw(st.integers(before, len(content)), label="bytes that were written")
    with tempfile.TemporaryDirectory() as workdir:
        file = Path(history.path(workdir))
        file.parent.mkdir()
        file.write_bytes(content[:cut])
        third = later("r3")
        for event in (third.begun_event(), third.ended_event()):
            sh(history.append(workdir, event))
        # Only the end of the line may be missing for the event to count.
        ended = cut >= len(content) - 1
        cut_off = replace(ENTRY, outcome=DeployOutcome.CUT_OFF, duration_s=None, reason="")
        assert read_back(workdir) == (LATER, ENTRY if ended else cut_off, third)
        assert file.read_bytes().startswith(content[:cut]), "nothing is ever rewritten"


@settings(deadline=None, max_examples=15)
@given(st.integers(0, len(ENTRY.begun_event().encode())))
def test_a_first_event_that_is_cut_off_at_any_byte_is_no_obstacle(cut: int) -> None:
    with tempfile.TemporaryDirectory() as workdir:
        file = Path(history.path(workdir))
        file.parent.mkdir()
        file.write_bytes(ENTRY.begun_event().encode()[:cut])
        sh(history.append(workdir, LATER.begun_event()))
        sh(history.append(workdir, LATER.ended_event()))
        assert read_back(workdir)[-1] == LATER


def test_a_full_disk_fails_the_script_before_it_changes_anything() -> None:
    """``/dev/full`` is a disk that takes nothing."""
    with tempfile.TemporaryDirectory() as workdir:
        file = Path(history.path(workdir))
        file.parent.mkdir()
        file.symlink_to("/dev/full")
        done = sh(f"{history.append(workdir, ENTRY.begun_event())}\necho changed", check=False)
    assert done.returncode != 0
    assert b"changed" not in done.stdout


# ------------------------------------------------------------------------- kept configurations

FILES = {
    "docker-compose.core.yml": b"services: {}\n",
    "monitoring/rules/a b'c.yml": bytes(range(256)),
}


@pytest.fixture
def workdir(tmp_path: Path) -> str:
    for name, content in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return str(tmp_path)


def test_a_configuration_comes_back_as_it_was_kept(workdir) -> None:
    kept = Release("a", None, FILES)
    sh(history.keep(workdir, FILES, kept.configuration))
    Path(workdir, "docker-compose.core.yml").write_bytes(b"something else")
    sh(history.keep(workdir, FILES, kept.configuration))
    fetched = sh(history.fetch(workdir, kept.configuration)).stdout.decode()
    files = releases.unpacked(fetched.rpartition("ktrdr-script-complete")[0])
    assert files == FILES
    assert Release("a", None, files).configuration == kept.configuration


def test_what_was_kept_by_halves_is_not_kept(workdir) -> None:
    archive = Path(history.kept(workdir, "c1"))
    archive.parent.mkdir(parents=True)
    archive.with_name("c1.tar.gz.partial").write_bytes(b"cut off")
    assert sh(history.fetch(workdir, "c1")).stdout == b"ktrdr-script-complete\n"
    sh(history.keep(workdir, FILES, "c1"))
    assert archive.exists()
    assert not archive.with_name("c1.tar.gz.partial").exists()


def test_a_configuration_whose_files_are_gone_is_an_error_and_not_kept(workdir) -> None:
    done = sh(history.keep(workdir, ["missing.yml"], "c1"), check=False)
    assert done.returncode != 0
    assert not Path(history.kept(workdir, "c1")).exists()


@given(st.text())
def test_what_is_no_archive_has_no_files(text: str) -> None:
    assert releases.unpacked(text) == {}


def test_an_archive_that_was_cut_short_has_no_files(workdir) -> None:
    sh(history.keep(workdir, FILES, "c1"))
    text = sh(history.fetch(workdir, "c1")).stdout.decode().rpartition("ktrdr")[0]
    for part in range(0, len(text) - 80, 97):
        assert releases.unpacked(text[:part]) in ({}, FILES)


# ---------------------------------------------------------------------------------- the lock

ADA, EVE = (
    LockOwner(DeployId(f"id-{who}", f"{who} \\ 'q' é", BEGAN), "deploy of a")
    for who in ("ada", "eve")
)


def hold(workdir: str, owner: LockOwner) -> str:
    """A script whose shell takes the lock, or exits."""
    return f"hold() {{\n{lock.hold(workdir, owner.to_json(), wait_s=0)}\n}}\nhold || exit $?"


@contextmanager
def held(workdir: str, owner: LockOwner) -> Iterator[subprocess.Popen[str]]:
    """A process that has the lock, and no child that could have it a moment longer."""
    with subprocess.Popen(
        ["sh", "-c", f"{hold(workdir, owner)}\necho {lock.HELD}\nexec sleep 300"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline().startswith(lock.HELD)
        try:
            yield process
        finally:
            process.terminate()


def shown(workdir: str) -> LockOwner | None:
    return parse_lock_state(sh(lock.show(workdir)).stdout.decode().splitlines())


def test_a_lock_is_free_then_held_then_free(tmp_path) -> None:
    workdir = str(tmp_path / "work dir's")
    assert shown(workdir) is None
    with held(workdir, ADA):
        assert shown(workdir) == ADA
    assert shown(workdir) is None


def test_a_second_owner_is_told_who_has_it(tmp_path) -> None:
    with held(str(tmp_path), ADA):
        done = sh(hold(str(tmp_path), EVE), check=False)
    assert done.returncode == lock.BUSY
    assert parse_lock_file(done.stdout.decode().strip()) == ADA


def test_what_puts_a_host_right_is_waited_for_by_everybody(tmp_path) -> None:
    """It takes longer than the second that is waited for anybody else."""
    recovery = replace(ADA, reason=f"{lock.RECOVERY} a cut-off deploy of a")
    with held(str(tmp_path), recovery) as process:
        began = time.monotonic()
        ender = subprocess.Popen(["sh", "-c", f"sleep 2; kill {process.pid}"])
        with held(str(tmp_path), EVE):
            assert shown(str(tmp_path)) == EVE
        assert time.monotonic() - began >= 1.5
        ender.wait()


def test_only_its_own_owner_may_change_anything(tmp_path) -> None:
    workdir = str(tmp_path)
    mine = f"{lock.require(workdir, ADA.to_json())}\necho changed"
    assert sh(mine, check=False).returncode == lock.LOST, "there is no lock at all"
    with held(workdir, ADA):
        assert b"changed" in sh(mine).stdout
    assert sh(mine, check=False).returncode == lock.LOST, "it was given back"
    with held(workdir, EVE):
        assert sh(mine, check=False).returncode == lock.LOST, "it is somebody else's"


def test_a_lock_is_released_for_the_owner_that_is_named_alone(tmp_path) -> None:
    workdir = str(tmp_path)
    with held(workdir, EVE) as process:
        sh(lock.release(workdir, ADA.to_json()))
        assert shown(workdir) == EVE
        sh(lock.release(workdir))
        process.wait(10)
        assert shown(workdir) is None


def test_a_process_that_only_has_the_number_of_the_holder_is_not_ended(tmp_path) -> None:
    """Numbers are given anew: whoever has this one now has nothing to do with the lock."""
    workdir = str(tmp_path)
    with held(workdir, ADA), subprocess.Popen(["sleep", "30"]) as innocent:
        Path(lock.path(workdir)).write_text(f"{innocent.pid} {ADA.to_json()}\n")
        sh(lock.release(workdir).replace("flock -w 10", "flock -w 1"), check=False)
        assert innocent.poll() is None
        innocent.terminate()


def test_a_file_that_cannot_be_read_names_an_unknown_owner(tmp_path) -> None:
    workdir = str(tmp_path)
    with held(workdir, ADA):
        Path(lock.path(workdir)).write_text("???")
        owner = shown(workdir)
    assert owner is not None
    assert owner.deploy.who == "unknown"


def test_a_host_without_flock_says_so(tmp_path) -> None:
    for name in ("sh", "mkdir"):
        (tmp_path / name).symlink_to(f"/bin/{name}")
    script = lock.hold(str(tmp_path), ADA.to_json(), wait_s=0)
    done = subprocess.run(
        ["/bin/sh", "-c", script], env={**os.environ, "PATH": str(tmp_path)}, check=False
    )
    assert done.returncode == lock.NO_FLOCK
