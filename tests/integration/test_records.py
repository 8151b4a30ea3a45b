"""What a host remembers, and its lock, as the real scripts of a real shell write and read them."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr.deployment.hosts import history as reading
from ktrdr.deployment.hosts.history import Entry, Kind, Outcome
from ktrdr.deployment.hosts.lock import (
    BUSY,
    LOST,
    NO_FLOCK,
    RECOVERY,
    Owner,
    acquire_lock,
    read_note,
    read_shown,
)
from ktrdr.deployment.releases import release as releases
from ktrdr.deployment.releases.release import Release
from ktrdr.deployment.scripts.script import Script, render, repeat
from tests.unit.deployment.shell import script_of

BEGAN = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
ENTRY = Entry(
    id="r1",
    kind=Kind.DEPLOY,
    service="all",
    tag="sha-0000001",
    commit=None,
    configuration="c1",
    who="Zoë's \\ $laptop",
    began=BEGAN,
    outcome=Outcome.FAILED,
    duration_s=1.5,
    reason="“it” said: `no`\nand no more — 日本",
)
LATER = replace(ENTRY, id="r2", outcome=Outcome.DEPLOYED, reason="")


def sh(file: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    script = render(Script(f"scripts/{file}.sh", arguments), {}).reveal()
    return run(script, check=check)


def run(script: str, *, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["sh", "-s"], input=script.encode(), capture_output=True, timeout=30, check=check
    )


def append(workdir: str, *events: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    return sh("record", "--workdir", workdir, *repeat("--event", events), check=check)


def keep(
    workdir: str, files: Iterable[str], configuration: str, *, check: bool = True
) -> subprocess.CompletedProcess[bytes]:
    kept = ("--keep", configuration, "--", *files)
    return sh("record", "--workdir", workdir, "--event", "{}", *kept, check=check)


def history_of(workdir: str) -> Path:
    return Path(workdir, reading.RECORDS, "history.jsonl")


def lock_of(workdir: str) -> Path:
    return Path(workdir, reading.RECORDS, "lock")


def kept_in(workdir: str, configuration: str) -> Path:
    return Path(workdir, reading.RECORDS, "releases", f"{configuration}.tar.gz")


def read_back(workdir: str) -> tuple[Entry, ...]:
    """The history as the transport hands it over: what is no text is replaced."""
    out = sh("read_history", workdir).stdout.decode("utf-8", "replace")
    return reading.read(out.splitlines()[:-1])


# -------------------------------------------------------------------------------- the history


def test_events_are_read_as_they_were_appended(tmp_path) -> None:
    workdir = str(tmp_path / "work dir's")
    for line in (ENTRY.begun(), ENTRY.ended(), LATER.begun(), LATER.ended()):
        append(workdir, line)
    assert read_back(workdir) == (ENTRY, LATER)
    last = script_of(tmp_path, 'read_history "$@"', "history").file
    printed = run(render(Script(last, (workdir, "2")), {}).reveal()).stdout.decode()
    assert printed.splitlines()[:-1] == [LATER.begun(), LATER.ended()]


def test_a_host_without_a_history_has_an_empty_one(tmp_path) -> None:
    assert read_back(str(tmp_path)) == ()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int]:
    """A history as the script has written it, and where its last event begins."""
    workdir = str(tmp_path_factory.mktemp("whole"))
    for line in (LATER.begun(), LATER.ended(), ENTRY.begun()):
        append(workdir, line)
    before = history_of(workdir).stat().st_size
    append(workdir, ENTRY.ended())
    return history_of(workdir).read_bytes(), before


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_an_append_that_is_cut_off_at_any_byte_leaves_a_history_that_goes_on(whole, data) -> None:
    """Whatever part of the last event was written, all others are read, and later ones too."""
    content, before = whole
    cut = data.draw(st.integers(before, len(content)), label="bytes that were written")
    with tempfile.TemporaryDirectory() as workdir:
        file = history_of(workdir)
        file.parent.mkdir()
        file.write_bytes(content[:cut])
        third = replace(LATER, id="r3")
        append(workdir, third.begun(), third.ended())
        # Only the end of the line may be missing for the event to count.
        ended = cut >= len(content) - 1
        cut_off = replace(ENTRY, outcome=Outcome.CUT_OFF, duration_s=None, reason="")
        assert read_back(workdir) == (LATER, ENTRY if ended else cut_off, third)
        assert file.read_bytes().startswith(content[:cut]), "nothing is ever rewritten"


@settings(deadline=None, max_examples=15)
@given(st.integers(0, len(ENTRY.begun().encode())))
def test_a_first_event_that_is_cut_off_at_any_byte_is_no_obstacle(cut: int) -> None:
    with tempfile.TemporaryDirectory() as workdir:
        file = history_of(workdir)
        file.parent.mkdir()
        file.write_bytes(ENTRY.begun().encode()[:cut])
        append(workdir, LATER.begun())
        append(workdir, LATER.ended())
        assert read_back(workdir)[-1] == LATER


def test_a_full_disk_fails_the_script_before_it_changes_anything() -> None:
    """``/dev/full`` is a disk that takes nothing."""
    with tempfile.TemporaryDirectory() as workdir:
        file = history_of(workdir)
        file.parent.mkdir()
        file.symlink_to("/dev/full")
        appends = script_of(Path(workdir), 'append_events "$@"\necho changed', "events").file
        script = render(Script(appends, (workdir, ENTRY.begun())), {}).reveal()
        done = run(script, check=False)
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
    keep(workdir, FILES, kept.configuration)
    Path(workdir, "docker-compose.core.yml").write_bytes(b"something else")
    keep(workdir, FILES, kept.configuration)
    fetched = sh("read_configuration", workdir, kept.configuration).stdout.decode()
    files = releases.unpacked(fetched.rpartition("ktrdr-script-complete")[0])
    assert files == FILES
    assert Release("a", None, files).configuration == kept.configuration


def test_what_was_kept_by_halves_is_not_kept(workdir) -> None:
    archive = kept_in(workdir, "c1")
    archive.parent.mkdir(parents=True)
    archive.with_name("c1.tar.gz.partial").write_bytes(b"cut off")
    assert sh("read_configuration", workdir, "c1").stdout == b"ktrdr-script-complete\n"
    keep(workdir, FILES, "c1")
    assert archive.exists()
    assert not archive.with_name("c1.tar.gz.partial").exists()


def test_a_configuration_whose_files_are_gone_is_an_error_and_not_kept(workdir) -> None:
    done = keep(workdir, ["missing.yml"], "c1", check=False)
    assert done.returncode != 0
    assert not kept_in(workdir, "c1").exists()


@given(st.text())
def test_what_is_no_archive_has_no_files(text: str) -> None:
    assert releases.unpacked(text) == {}


def test_an_archive_that_was_cut_short_has_no_files(workdir) -> None:
    keep(workdir, FILES, "c1")
    text = sh("read_configuration", workdir, "c1").stdout.decode().rpartition("ktrdr")[0]
    for part in range(0, len(text) - 80, 97):
        assert releases.unpacked(text[:part]) in ({}, FILES)


# ---------------------------------------------------------------------------------- the lock

ADA, EVE = (Owner(f"id-{who}", f"{who} \\ 'q' é", "deploy of a", BEGAN) for who in ("ada", "eve"))


def hold(workdir: str, owner: Owner) -> str:
    """A script whose shell takes the lock, or exits."""
    script = render(acquire_lock(workdir, owner.note(), wait_s=0), {}).reveal()
    return f"{script.rstrip()} || exit $?"


@contextmanager
def held(workdir: str, owner: Owner) -> Iterator[subprocess.Popen[str]]:
    """A process that has the lock, and no child that could have it a moment longer."""
    with subprocess.Popen(
        ["sh", "-c", f"{hold(workdir, owner)}\necho held\nexec sleep 300"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("held")
        try:
            yield process
        finally:
            process.terminate()


def shown(workdir: str) -> Owner | None:
    return read_shown(sh("show_lock", workdir).stdout.decode().splitlines())


def test_a_lock_is_free_then_held_then_free(tmp_path) -> None:
    workdir = str(tmp_path / "work dir's")
    assert shown(workdir) is None
    with held(workdir, ADA):
        assert shown(workdir) == ADA
    assert shown(workdir) is None


def test_a_second_owner_is_told_who_has_it(tmp_path) -> None:
    with held(str(tmp_path), ADA):
        done = run(hold(str(tmp_path), EVE), check=False)
    assert done.returncode == BUSY
    assert read_note(done.stdout.decode().strip()) == ADA


def test_what_puts_a_host_right_is_waited_for_by_everybody(tmp_path) -> None:
    """It takes longer than the second that is waited for anybody else."""
    recovery = replace(ADA, reason=f"{RECOVERY} a cut-off deploy of a")
    with held(str(tmp_path), recovery) as process:
        began = time.monotonic()
        ender = subprocess.Popen(["sh", "-c", f"sleep 2; kill {process.pid}"])
        with held(str(tmp_path), EVE):
            assert shown(str(tmp_path)) == EVE
        assert time.monotonic() - began >= 1.5
        ender.wait()


def test_only_its_own_owner_may_change_anything(tmp_path) -> None:
    workdir = str(tmp_path)
    change = script_of(tmp_path, 'require_lock "$@"\necho changed', "lock").file
    mine = render(Script(change, (workdir, ADA.note())), {}).reveal()
    assert run(mine, check=False).returncode == LOST, "there is no lock at all"
    with held(workdir, ADA):
        assert b"changed" in run(mine).stdout
    assert run(mine, check=False).returncode == LOST, "it was given back"
    with held(workdir, EVE):
        assert run(mine, check=False).returncode == LOST, "it is somebody else's"


def test_a_lock_is_released_whoever_has_it_and_says_who_that_was(tmp_path) -> None:
    workdir = str(tmp_path)
    with held(workdir, EVE) as process:
        done = sh("break_lock", workdir)
        assert read_shown(done.stdout.decode().splitlines()) == EVE
        process.wait(10)
        assert shown(workdir) is None


def test_a_process_that_only_has_the_number_of_the_holder_is_not_ended(tmp_path) -> None:
    """Numbers are given anew: whoever has this one now has nothing to do with the lock."""
    workdir = str(tmp_path)
    with held(workdir, ADA), subprocess.Popen(["sleep", "30"]) as innocent:
        lock_of(workdir).write_text(f"{innocent.pid} {ADA.note()}\n")
        script = render(Script("scripts/break_lock.sh", (workdir,)), {}).reveal()
        run(script.replace("flock -w 10", "flock -w 1"), check=False)
        assert innocent.poll() is None
        innocent.terminate()


def test_a_file_that_cannot_be_read_names_an_unknown_owner(tmp_path) -> None:
    workdir = str(tmp_path)
    with held(workdir, ADA):
        lock_of(workdir).write_text("???")
        owner = shown(workdir)
    assert owner is not None
    assert owner.who == "somebody unknown"


def test_a_host_without_flock_says_so(tmp_path) -> None:
    for name in ("sh", "mkdir"):
        (tmp_path / name).symlink_to(f"/bin/{name}")
    script = hold(str(tmp_path), ADA)
    done = subprocess.run(
        ["/bin/sh", "-c", script], env={**os.environ, "PATH": str(tmp_path)}, check=False
    )
    assert done.returncode == NO_FLOCK
