"""History and lock of a host, written and read by the real scripts in a real shell."""

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

from ktrdr.deployment.hosts.actions import HistoryAction, parse_actions
from ktrdr.deployment.hosts.history import (
    RECORDS,
    DeployKind,
    DeployOutcome,
    HistoryEntry,
    parse_history,
)
from ktrdr.deployment.hosts.host import DeployId
from ktrdr.deployment.hosts.lock import (
    LOCK_BUSY,
    LOCK_LOST,
    NO_FLOCK,
    RECOVERY,
    LockOwner,
    acquire_script,
    parse_lock_file,
    parse_lock_state,
)
from ktrdr.deployment.releases import release as releases
from ktrdr.deployment.releases.release import Release
from ktrdr.deployment.scripts.script import Script, render, repeat
from tests.unit.deployment.shell import write_script

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


def with_id(entry: HistoryEntry, deploy_id: str) -> HistoryEntry:
    return replace(entry, deploy=replace(entry.deploy, id=deploy_id))


LATER = replace(with_id(ENTRY, "r2"), outcome=DeployOutcome.DEPLOYED, reason="")


def run_text(text: str, *, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["sh", "-s"], input=text.encode(), capture_output=True, timeout=30, check=check
    )


def run_script(
    file: str, *arguments: str, check: bool = True
) -> subprocess.CompletedProcess[bytes]:
    return run_text(render(Script(file, arguments), {}).reveal(), check=check)


def append_events(workdir: str, *events: str) -> None:
    run_script("scripts/record.sh", "--workdir", workdir, *repeat("--event", events))


def keep_configuration(
    workdir: str, files: Iterable[str], configuration: str, *, check: bool = True
) -> subprocess.CompletedProcess[bytes]:
    options = ("--workdir", workdir, "--event", "{}", "--keep", configuration)
    return run_script("scripts/record.sh", *options, "--", *files, check=check)


def fetch_configuration(workdir: str, configuration: str) -> str:
    """Return the archive as base64, and the line that ends the script's output."""
    return run_script("scripts/read_configuration.sh", workdir, configuration).stdout.decode()


def history_file(workdir: str) -> Path:
    return Path(workdir, RECORDS, "history.jsonl")


def lock_file(workdir: str) -> Path:
    return Path(workdir, RECORDS, "lock")


def archive_file(workdir: str, configuration: str) -> Path:
    return Path(workdir, RECORDS, "releases", f"{configuration}.tar.gz")


def read_history(workdir: str) -> tuple[HistoryEntry, ...]:
    """Return the history as the transport returns it, without what is not text."""
    process = run_script("scripts/read_history.sh", workdir)
    output = process.stdout.decode("utf-8", "replace")
    return parse_history(output.splitlines()[:-1])


# -------------------------------------------------------------------------------- the history


def test_events_are_read_as_they_were_appended(tmp_path) -> None:
    workdir = str(tmp_path / "work dir's")
    for line in (
        ENTRY.begun_event(),
        ENTRY.ended_event(),
        LATER.begun_event(),
        LATER.ended_event(),
    ):
        append_events(workdir, line)
    assert read_history(workdir) == (ENTRY, LATER)
    file = write_script(tmp_path, 'read_history "$@"', "history").file
    last = run_script(file, workdir, "2").stdout.decode().splitlines()
    assert last[:-1] == [LATER.begun_event(), LATER.ended_event()]


def test_actions_do_not_displace_the_deploys_that_a_rollback_needs(tmp_path) -> None:
    workdir = str(tmp_path)
    stops = [HistoryAction(DeployId(f"a{n}", "ada", BEGAN), "stop").event() for n in range(30)]
    append_events(workdir, ENTRY.begun_event(), ENTRY.ended_event(), *stops)
    file = write_script(tmp_path, 'read_history "$@"', "history").file
    lines = run_script(file, workdir, "2").stdout.decode().splitlines()[:-1]
    assert parse_history(lines) == (ENTRY,)
    assert [each.deploy.id for each in parse_actions(lines)] == [f"a{n}" for n in range(10, 30)]
    assert read_history(workdir) == (ENTRY,)


def test_events_are_on_the_disk_when_the_script_ends(tmp_path) -> None:
    """The program sync records what it was asked to write."""
    synced = tmp_path / "synced"
    program = tmp_path / "bin" / "sync"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{synced}\nexit 1\n')
    program.chmod(0o755)
    script = Script("scripts/record.sh", ("--workdir", str(tmp_path), "--event", "{}"))
    run_text(f"PATH={program.parent}:$PATH\n{render(script, {}).reveal()}")
    assert str(history_file(str(tmp_path))) in synced.read_text().splitlines()


# -------------------------------------------------------------------- the copy on the share


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return the path of the copy on a share that has the mark of the backend."""
    share = tmp_path / "the share"
    share.mkdir()
    (share / ".ktrdr-share").touch()
    return share / ".ktrdr-history" / "ktrdr-core-x.jsonl"


def append_and_copy(workdir: str, copy: Path, *events: str) -> None:
    run_script(
        *("scripts/record.sh", "--workdir", workdir, "--copy", str(copy)),
        *repeat("--event", events),
    )


def test_the_end_of_a_deploy_copies_the_history_to_the_share(tmp_path, copy) -> None:
    workdir = str(tmp_path / "work dir")
    for event in (LATER.begun_event(), LATER.ended_event()):
        append_and_copy(workdir, copy, event)
        assert copy.read_bytes() == history_file(workdir).read_bytes()


def test_a_copy_with_events_that_the_history_has_lost_is_kept(tmp_path, copy) -> None:
    workdir = str(tmp_path / "work")
    append_and_copy(workdir, copy, ENTRY.begun_event(), ENTRY.ended_event())
    content = copy.read_bytes()
    history_file(workdir).unlink()
    append_and_copy(workdir, copy, LATER.begun_event(), LATER.ended_event())
    assert copy.read_bytes() == content
    restore = f"cd '{workdir}/{RECORDS}' && cat '{copy}' history.jsonl >restored"
    run_text(f"{restore}; mv restored history.jsonl")
    assert read_history(workdir) == (ENTRY, LATER)
    append_and_copy(workdir, copy, "{}")
    assert copy.read_bytes() == history_file(workdir).read_bytes()


def test_without_the_mark_of_the_share_nothing_is_copied(tmp_path, copy) -> None:
    """The directory may be that of the host's own disk, over which nothing is mounted."""
    (copy.parent.parent / ".ktrdr-share").unlink()
    append_and_copy(str(tmp_path), copy, ENTRY.begun_event())
    assert not copy.parent.exists()
    assert len(read_history(str(tmp_path))) == 1


def test_a_host_to_which_nothing_was_deployed_has_an_empty_history(tmp_path) -> None:
    assert read_history(str(tmp_path)) == ()


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int]:
    """Return a history as the scripts write it, and the offset of its last event."""
    workdir = str(tmp_path_factory.mktemp("complete"))
    for line in (LATER.begun_event(), LATER.ended_event(), ENTRY.begun_event()):
        append_events(workdir, line)
    before = history_file(workdir).stat().st_size
    append_events(workdir, ENTRY.ended_event())
    return history_file(workdir).read_bytes(), before


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_history_whose_last_event_is_cut_off_at_any_byte_remains_usable(complete, data) -> None:
    """All other events are read, and later ones too."""
    content, before = complete
    cut = data.draw(st.integers(before, len(content)), label="written bytes")
    with tempfile.TemporaryDirectory() as workdir:
        file = history_file(workdir)
        file.parent.mkdir()
        file.write_bytes(content[:cut])
        third = with_id(LATER, "r3")
        append_events(workdir, third.begun_event(), third.ended_event())
        # An event counts even if only the end of its line is missing.
        ended = cut >= len(content) - 1
        cut_off = replace(ENTRY, outcome=DeployOutcome.CUT_OFF, duration_s=None, reason="")
        assert read_history(workdir) == (LATER, ENTRY if ended else cut_off, third)
        assert file.read_bytes().startswith(content[:cut]), "nothing is rewritten"


@settings(deadline=None, max_examples=15)
@given(st.integers(0, len(ENTRY.begun_event().encode())))
def test_a_history_whose_first_event_is_cut_off_at_any_byte_remains_usable(cut: int) -> None:
    with tempfile.TemporaryDirectory() as workdir:
        file = history_file(workdir)
        file.parent.mkdir()
        file.write_bytes(ENTRY.begun_event().encode()[:cut])
        append_events(workdir, LATER.begun_event())
        append_events(workdir, LATER.ended_event())
        assert read_history(workdir)[-1] == LATER


def test_a_full_disk_fails_the_script_before_it_changes_anything() -> None:
    """Writing to ``/dev/full`` fails as on a full disk."""
    with tempfile.TemporaryDirectory() as workdir:
        file = history_file(workdir)
        file.parent.mkdir()
        file.symlink_to("/dev/full")
        appending = write_script(Path(workdir), 'append_events "$@"\necho changed', "events").file
        process = run_script(appending, workdir, ENTRY.begun_event(), check=False)
    assert process.returncode != 0
    assert b"changed" not in process.stdout


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


def test_a_kept_configuration_is_fetched_unchanged(workdir) -> None:
    kept = Release("a", None, FILES)
    keep_configuration(workdir, FILES, kept.configuration_hash)
    Path(workdir, "docker-compose.core.yml").write_bytes(b"something else")
    keep_configuration(workdir, FILES, kept.configuration_hash)
    fetched = fetch_configuration(workdir, kept.configuration_hash)
    files = releases.unpack_archive(fetched.rpartition("ktrdr-script-complete")[0])
    assert files == FILES
    assert Release("a", None, files).configuration_hash == kept.configuration_hash


def test_a_partially_written_configuration_does_not_count(workdir) -> None:
    archive = archive_file(workdir, "c1")
    archive.parent.mkdir(parents=True)
    archive.with_name("c1.tar.gz.partial").write_bytes(b"cut off")
    assert fetch_configuration(workdir, "c1") == "ktrdr-script-complete\n"
    keep_configuration(workdir, FILES, "c1")
    assert archive.exists()
    assert not archive.with_name("c1.tar.gz.partial").exists()


def test_kept_configurations_are_listed_by_their_hashes(tmp_path, workdir) -> None:
    file = write_script(tmp_path, 'set -f\nlist_kept "$@"', "history").file
    assert run_script(file, workdir).stdout.decode().splitlines()[:-1] == []
    for name in ("c1", "c2"):
        keep_configuration(workdir, FILES, name)
    archive_file(workdir, "c3").with_name("c3.tar.gz.partial").touch()
    listed = run_script(file, workdir).stdout.decode().splitlines()[:-1]
    assert sorted(listed) == ["c1.tar.gz", "c2.tar.gz", "c3.tar.gz.partial"]


@pytest.mark.parametrize("content", [b"", None], ids=["empty", "deleted"])
def test_a_kept_configuration_that_is_lost_is_kept_again(workdir, content) -> None:
    keep_configuration(workdir, FILES, "c1")
    archive = archive_file(workdir, "c1")
    whole = archive.read_bytes()
    archive.unlink() if content is None else archive.write_bytes(content)
    keep_configuration(workdir, FILES, "c1")
    files = fetch_configuration(workdir, "c1").rpartition("ktrdr-script-complete")[0]
    assert releases.unpack_archive(files) == FILES
    assert len(archive.read_bytes()) == len(whole)


def test_a_configuration_with_missing_files_is_an_error_and_not_kept(workdir) -> None:
    process = keep_configuration(workdir, ["missing.yml"], "c1", check=False)
    assert process.returncode != 0
    assert not archive_file(workdir, "c1").exists()


@given(st.text())
def test_a_text_that_is_not_an_archive_contains_no_files(text: str) -> None:
    assert releases.unpack_archive(text) == {}


def test_a_truncated_archive_contains_no_files(workdir) -> None:
    keep_configuration(workdir, FILES, "c1")
    text = fetch_configuration(workdir, "c1").rpartition("ktrdr")[0]
    for part in range(0, len(text) - 80, 97):
        assert releases.unpack_archive(text[:part]) in ({}, FILES)


# ---------------------------------------------------------------------------------- the lock

ADA, EVE = (
    LockOwner(DeployId(f"id-{who}", f"{who} \\ 'q' é", BEGAN), "deploy of a")
    for who in ("ada", "eve")
)


def hold(workdir: str, owner: LockOwner) -> str:
    """Return a script whose shell acquires the lock, or exits."""
    script = render(acquire_script(workdir, owner.to_json(), wait_s=0), {}).reveal()
    return f"{script.rstrip()} || exit $?"


@contextmanager
def held(workdir: str, owner: LockOwner) -> Iterator[subprocess.Popen[str]]:
    """Hold the lock in a process without children that could hold it any longer."""
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


def lock_owner(workdir: str) -> LockOwner | None:
    process = run_script("scripts/show_lock.sh", workdir)
    return parse_lock_state(process.stdout.decode().splitlines())


def test_a_lock_is_held_until_its_process_ends(tmp_path) -> None:
    workdir = str(tmp_path / "work dir's")
    assert lock_owner(workdir) is None
    with held(workdir, ADA):
        assert lock_owner(workdir) == ADA
    assert lock_owner(workdir) is None


def test_a_second_owner_learns_who_holds_the_lock(tmp_path) -> None:
    with held(str(tmp_path), ADA):
        process = run_text(hold(str(tmp_path), EVE), check=False)
    assert process.returncode == LOCK_BUSY
    assert parse_lock_file(process.stdout.decode().strip()) == ADA


def test_every_deploy_waits_for_a_recovery(tmp_path) -> None:
    """The recovery takes longer than the second that a deploy waits for another owner."""
    recovery = replace(ADA, reason=f"{RECOVERY} a cut-off deploy of a")
    with held(str(tmp_path), recovery) as process:
        began = time.monotonic()
        ender = subprocess.Popen(["sh", "-c", f"sleep 2; kill {process.pid}"])
        with held(str(tmp_path), EVE):
            assert lock_owner(str(tmp_path)) == EVE
        assert time.monotonic() - began >= 1.5
        ender.wait()


def test_only_a_script_of_the_owner_passes_the_check_of_the_lock(tmp_path) -> None:
    workdir = str(tmp_path)
    file = write_script(tmp_path, 'require_lock "$@"\necho changed', "lock").file

    def change() -> subprocess.CompletedProcess[bytes]:
        return run_script(file, workdir, ADA.to_json(), check=False)

    assert change().returncode == LOCK_LOST, "no process holds the lock"
    with held(workdir, ADA):
        assert b"changed" in change().stdout
    assert change().returncode == LOCK_LOST, "the lock was released"
    with held(workdir, EVE):
        assert change().returncode == LOCK_LOST, "another owner holds the lock"


def test_a_lock_can_be_broken_for_any_owner_who_is_named(tmp_path) -> None:
    workdir = str(tmp_path)
    with held(workdir, EVE) as process:
        output = run_script("scripts/break_lock.sh", workdir).stdout.decode()
        assert parse_lock_state(output.splitlines()) == EVE
        process.wait(10)
        assert lock_owner(workdir) is None


def test_a_release_of_a_held_lock_is_recorded(tmp_path) -> None:
    workdir, event = str(tmp_path), HistoryAction(ENTRY.deploy, "lock release").event()
    with held(workdir, EVE):
        run_script("scripts/break_lock.sh", workdir, event)
    run_script("scripts/break_lock.sh", workdir, event)
    assert history_file(workdir).read_text().splitlines() == [event], "only the first time"


def test_a_release_does_not_end_a_process_that_only_has_the_recorded_pid(tmp_path) -> None:
    """The system may have reused the number."""
    workdir = str(tmp_path)
    with held(workdir, ADA), subprocess.Popen(["sleep", "30"]) as unrelated:
        lock_file(workdir).write_text(f"{unrelated.pid} {ADA.to_json()}\n")
        script = render(Script("scripts/break_lock.sh", (workdir,)), {}).reveal()
        run_text(script.replace("flock -w 10", "flock -w 1"), check=False)
        assert unrelated.poll() is None
        unrelated.terminate()


def test_an_unreadable_lock_file_names_an_unknown_owner(tmp_path) -> None:
    workdir = str(tmp_path)
    with held(workdir, ADA):
        lock_file(workdir).write_text("???")
        owner = lock_owner(workdir)
    assert owner is not None
    assert owner.deploy.who == "unknown"


def test_a_host_without_flock_has_an_exit_code_of_its_own(tmp_path) -> None:
    for name in ("sh", "mkdir"):
        (tmp_path / name).symlink_to(f"/bin/{name}")
    script = hold(str(tmp_path), ADA)
    process = subprocess.run(
        ["/bin/sh", "-c", script], env={**os.environ, "PATH": str(tmp_path)}, check=False
    )
    assert process.returncode == NO_FLOCK
