"""The protocol of a remote shell, in every kind of shell that this machine has."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ktrdr.deployment.scripts.script import render
from ktrdr.deployment.ssh.protocol import (
    END,
    HEARTBEAT,
    inline_frame,
    session_setup,
    subshell_frame,
)
from tests.unit.deployment.shell import write_script

SHELLS = [
    shell for shell in (["sh"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])
]


class Peer:
    """A session of its own, as sshd makes one, from the caller's side."""

    def __init__(self, shell: list[str], **limits: int) -> None:
        self.mark = f"mark-{secrets.token_hex(16)}"
        self.process = subprocess.Popen(
            [*shell, "-s"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self.send(session_setup(self.mark, **limits))
        assert self.answer() == (0, b"", b"")

    def send(self, data: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(data)

    def answer(self) -> tuple[int, bytes, bytes]:
        out, code = self._until(self.process.stdout, rb" (\d+)\n")
        err, _ = self._until(self.process.stderr, rb"\n")
        return int(code or -1), out, err

    def run(self, script: str) -> tuple[int, bytes, bytes]:
        self.send(subshell_frame(script))
        return self.answer()

    def close_input(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()

    def _until(self, pipe, ending: bytes) -> tuple[bytes, bytes]:
        pattern, heard = re.compile(self.mark.encode() + ending), b""
        while not (found := pattern.search(heard)):
            data = os.read(pipe.fileno(), 65536)
            assert data, f"the shell has ended, after {heard!r}"
            heard += data
        return heard[: found.start()], found[1] if found.lastindex else b""


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def shell(request: pytest.FixtureRequest) -> Iterator[Callable[..., Peer]]:
    peers: list[Peer] = []

    def make(**limits: int) -> Peer:
        peers.append(Peer(request.param, **limits))
        return peers[-1]

    yield make
    for peer in peers:
        with suppress(ProcessLookupError):
            os.killpg(peer.process.pid, signal.SIGKILL)
        peer.process.wait(10)
        for pipe in (peer.process.stdin, peer.process.stdout, peer.process.stderr):
            assert pipe
            pipe.close()


def running(peer: Peer, command: str) -> list[str]:
    return [line for line in members(peer.process.pid) if command in line]


def started(peer: Peer) -> list[str]:
    """Return the sleeping processes that scripts have started."""
    return sorted(line.split(None, 1)[1] for line in running(peer, "sleep 30"))


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, f"timed out waiting until {what}"
        time.sleep(0.01)


def members(group: int) -> list[str]:
    """Return the living processes of a session."""
    listed = subprocess.run(
        ["ps", "-o", "stat=,args=", "-s", str(group)], capture_output=True, text=True, check=False
    )
    return [line for line in listed.stdout.splitlines() if not line.startswith("Z")]


def test_scripts_give_their_outputs_and_exit_codes_one_after_the_other(shell) -> None:
    peer = shell()
    assert peer.run("echo out; echo err >&2; exit 7") == (7, b"out\n", b"err\n")
    assert peer.run("printf half; false") == (1, b"half", b"")
    assert peer.run("exit 255") == (255, b"", b"")


def test_scripts_in_quick_succession_lose_nothing(shell) -> None:
    peer = shell()
    for number in range(300):
        assert peer.run(f"echo {number}") == (0, b"%d\n" % number, b"")


def test_a_script_finds_its_standard_input_empty_and_leaves_nothing_to_the_next(shell) -> None:
    peer = shell()
    assert peer.run("cat; left=here; set -eu; trap 'echo no' EXIT TERM; exec 9</dev/null")[0] == 0
    assert peer.run('echo "${left-nothing}"; false; echo on') == (0, b"nothing\non\n", b"")


def test_a_long_script_arrives_whole(shell) -> None:
    text = "a" * 300_000
    assert shell().run(f"cat <<'END'\n{text}\nEND") == (0, f"{text}\n".encode(), b"")


def test_heartbeats_disturb_nothing_whenever_they_come(shell) -> None:
    peer = shell()
    peer.send(HEARTBEAT)
    assert peer.run("echo a")[1] == b"a\n"
    peer.send(subshell_frame("sleep 0.2; echo b") + HEARTBEAT + HEARTBEAT)
    assert peer.answer() == (0, b"b\n", b"")
    assert peer.run("echo c")[1] == b"c\n"


def test_an_end_that_comes_too_late_does_nothing(shell) -> None:
    peer = shell()
    peer.run("true")
    peer.send(END)
    assert peer.run("echo fine") == (0, b"fine\n", b"")


def test_a_script_is_ended_with_all_it_has_started_and_the_next_one_runs(shell) -> None:
    peer = shell()
    peer.send(
        subshell_frame("trap 'echo cleaned; exit 3' TERM\nsleep 301 &\nsleep 300 &\necho $!\nwait")
    )
    assert peer.process.stdout
    child = int(os.read(peer.process.stdout.fileno(), 100))
    # dash forgets a signal that reaches a child of its between fork and exec; such a child survives
    # until the shell ends, as in the test below.
    wait_until(lambda: started(peer) == ["sleep 300", "sleep 301"], "both have begun")
    peer.send(END)
    assert peer.answer() == (3, b"cleaned\n", b"")
    wait_until(lambda: not started(peer), "all it has started has ended")
    assert not Path(f"/proc/{child}/exe").exists()
    assert peer.run("echo next") == (0, b"next\n", b"")


def test_a_process_that_survives_its_script_ends_with_the_shell(shell) -> None:
    peer = shell()
    peer.send(subshell_frame("(trap '' TERM; echo on; sleep 300; sleep 300) & wait"))
    assert peer.process.stdout
    os.read(peer.process.stdout.fileno(), 100)
    peer.send(END)
    assert peer.answer()[0] == 143
    wait_until(lambda: running(peer, "sleep 300"), "it has survived")
    peer.close_input()
    wait_until(lambda: not running(peer, "sleep 300"), "it has gone")


def test_a_script_that_ignores_sigterm_is_killed_together_with_the_shell(shell) -> None:
    peer = shell(grace_s=1)
    peer.send(subshell_frame("trap '' TERM; echo on; sleep 300; sleep 300"))
    assert peer.process.stdout
    os.read(peer.process.stdout.fileno(), 100)
    peer.send(END)
    assert peer.process.wait(10)
    wait_until(lambda: not members(peer.process.pid), "nothing is left")


def test_the_end_of_the_input_ends_the_script_and_the_shell(shell) -> None:
    peer = shell()
    peer.send(subshell_frame("echo on; sleep 300"))
    assert peer.process.stdout
    assert os.read(peer.process.stdout.fileno(), 100) == b"on\n"
    peer.close_input()
    peer.process.wait(10)
    wait_until(lambda: not running(peer, "sleep 300"), "nothing runs")


def test_an_idle_shell_ends_with_its_input(shell) -> None:
    peer = shell()
    peer.close_input()
    assert peer.process.wait(10) == -signal.SIGKILL
    # The others are killed in the same moment, and may take another to be gone.
    wait_until(lambda: not members(peer.process.pid), "nothing is left")


@pytest.mark.parametrize("busy", [True, False])
def test_silence_ends_the_session(shell, busy: bool) -> None:
    peer = shell(tick_s=1, ticks=2, grace_s=1)
    if busy:
        peer.send(subshell_frame("trap '' TERM; sleep 300; sleep 300"))
    assert peer.process.wait(25)
    wait_until(lambda: not running(peer, "sleep 300"), "nothing runs")


def test_heartbeats_keep_the_session_alive(shell) -> None:
    peer = shell(tick_s=1, ticks=3, grace_s=1)
    peer.send(subshell_frame("sleep 5; echo done"))
    for _ in range(5):
        time.sleep(1)
        peer.send(HEARTBEAT)
    assert peer.answer() == (0, b"done\n", b"")


def test_an_inline_script_keeps_what_it_opens_and_other_scripts_do_not_have_it(
    shell, tmp_path
) -> None:
    peer, file = shell(), tmp_path / "lock"
    peer.send(inline_frame(f"exec 9<>{file}\nflock -n 9 || return 5\necho held $$"))
    assert peer.answer() == (0, b"held %d\n" % peer.process.pid, b"")
    taken = ["flock", "-n", file, "true"]
    assert subprocess.run(taken, check=False).returncode == 1
    leaves_a_process = write_script(tmp_path, "    sleep 30 & : >&9")
    assert peer.run(render(leaves_a_process, {}).reveal())[0] != 0
    heir = write_script(tmp_path, "    : >&9", keeps_lock=True)
    assert peer.run(render(heir, {}).reveal())[0] == 0, "as the supervisor of a deploy needs it"
    peer.send(inline_frame("exec 9>&-\nreturn 4"))
    assert peer.answer() == (4, b"", b"")
    # A process that was just forked closes the shell's files when it starts its program.
    assert subprocess.run(["flock", "-w", "5", file, "true"], check=False).returncode == 0


def test_the_signal_that_releases_a_lock_ends_the_shell_in_mid_script(shell, tmp_path) -> None:
    peer = shell()
    peer.send(subshell_frame("echo on; sleep 300"))
    assert peer.process.stdout
    os.read(peer.process.stdout.fileno(), 100)
    os.kill(peer.process.pid, signal.SIGUSR2)
    # bash heeds its trap for EXIT at signals, too.
    assert -peer.process.wait(5) in (signal.SIGUSR2, signal.SIGKILL)
