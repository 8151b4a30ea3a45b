"""Completion, through click's protocol and once in a real bash."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from ktrdr.cli.cli import LazyGroup, cli

PROGRAM = Path(sys.executable).with_name("ktrdr")
CORE = "services:\n  db: {image: postgres}\n  backend: {image: x}\n"
WORKERS = "services:\n  backtest-worker-1: {image: x}\n  training-worker-1: {image: x}\n"


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a directory like a checkout."""
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy/inventory.yml").write_text("workers: {B: , gpu: {host: 10.0.0.7}}\n")
    (tmp_path / "docker-compose.core.yml").write_text(CORE)
    (tmp_path / "docker-compose.workers.yml").write_text(WORKERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KTRDR_INVENTORY", raising=False)
    return tmp_path


def completions(line: str) -> list[str]:
    """Return the completions of the last word of a line."""
    *words, last = line.split(" ")[1:]
    complete = BashComplete(cli, {}, "ktrdr", "_KTRDR_COMPLETE")
    return [item.value for item in complete.get_completions(words, last)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ktrdr se", ["secrets"]),
        ("ktrdr deploy ro", ["rollback"]),
        ("ktrdr deploy workers ", ["B", "gpu", "all"]),
        ("ktrdr deploy workers B ", ["gpu", "all"]),
        ("ktrdr deploy workers g", ["gpu"]),
        ("ktrdr deploy core ", ["db", "backend", "all"]),
        ("ktrdr deploy core --dry-run b", ["backend"]),
        ("ktrdr deploy logs ", ["core", "workers", "all"]),
        ("ktrdr deploy logs workers ", ["B", "gpu", "all"]),
        ("ktrdr deploy logs core ", []),
        ("ktrdr deploy restart core --service b", ["backend", "backtest-worker-1"]),
        ("ktrdr deploy exec ", ["core", "workers"]),
        ("ktrdr deploy exec core ", ["db", "backend"]),
        ("ktrdr deploy exec workers ", ["B", "gpu"]),
        ("ktrdr deploy exec workers B t", ["training-worker-1"]),
        ("ktrdr deploy exec workers B training-worker-1 ", []),
        ("ktrdr deploy lock show ", ["core", "workers", "all"]),
        ("ktrdr deploy rollback workers ", ["B", "gpu", "all"]),
        ("ktrdr completion ", ["bash", "zsh", "fish"]),
    ],
)
def test_words_are_completed_by_their_position(line: str, expected: list[str]) -> None:
    assert completions(line) == expected


def test_tags_of_recent_commits_are_completed_newest_first(checkout: Path) -> None:
    git = ("git", "-C", str(checkout), "-c", "user.name=x", "-c", "user.email=x@example.org")
    subprocess.run([*git, "init", "-q"], check=True)
    for message in ("first", "second"):
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", message], check=True)
    log = subprocess.run(
        ["git", "-C", str(checkout), "log", "--format=sha-%h", "--abbrev=7"],
        capture_output=True,
        check=True,
        text=True,
    )
    assert completions("ktrdr deploy core all --tag ") == log.stdout.split()
    assert completions("ktrdr deploy diff --tag latest") == []


def test_nodes_come_from_the_inventory_on_the_command_line(checkout: Path) -> None:
    (checkout / "other.yml").write_text("workers: {X: }\n")
    assert completions("ktrdr deploy workers --inventory other.yml ") == ["X", "all"]


@pytest.mark.parametrize(
    "line",
    [
        "ktrdr deploy workers ",
        "ktrdr deploy logs workers ",
        "ktrdr deploy exec core ",
        "ktrdr deploy nonsense x",
    ],
)
def test_an_error_completes_nothing_and_prints_nothing(
    checkout: Path, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    write_invalid_files(checkout)
    assert completions(line) == []
    assert capfd.readouterr() == ("", "")


def write_invalid_files(checkout: Path) -> None:
    (checkout / "deploy/inventory.yml").write_text("workers: [")
    (checkout / "docker-compose.core.yml").write_text("services: [")


def test_an_error_does_not_fail_the_program(checkout: Path) -> None:
    write_invalid_files(checkout)
    line = "ktrdr deploy workers "
    words = line.split(" ")
    done = subprocess.run(
        [PROGRAM],
        env={
            **os.environ,
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
            "_KTRDR_COMPLETE": "bash_complete",
        },
        capture_output=True,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr, done.returncode) == (b"", b"", 0)


def test_command_names_are_completed_without_importing_the_commands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LazyGroup, "get_command", None)
    assert isinstance(cli, LazyGroup)
    assert completions("ktrdr ") == list(cli.lazy_commands)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_calls_ktrdr(shell: str) -> None:
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0
    assert f"_KTRDR_COMPLETE={shell}_complete" in done.output


def test_completion_works_in_a_real_bash() -> None:
    leader, follower = pty.openpty()
    environment = {**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}", "PS1": "$ "}
    bash = subprocess.Popen(
        ["bash", "--noprofile", "--norc", "-i"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environment,
        start_new_session=True,
    )
    os.close(follower)
    os.write(leader, b'eval "$(ktrdr completion bash)"; echo re""ady\n')
    shown = _read_until(leader, b"ready\r\n")
    os.write(leader, b"echo ktrdr; ktrdr deploy workers g\t")
    shown += _read_until(leader, b"workers gpu")
    os.write(leader, b"\x15exit\n")
    bash.wait(20)
    os.close(leader)
    assert b"workers gpu" in shown


def _read_until(terminal: int, wanted: bytes) -> bytes:
    shown, end = b"", time.monotonic() + 30
    while wanted not in shown and time.monotonic() < end:
        shown += os.read(terminal, 4096)
    return shown
