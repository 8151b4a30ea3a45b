"""The deploy command under test, with its events."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.config import ROOT
from tests.chaos.deploy.hosts import process_ids

_PROGRAM = ROOT / ".venv" / "bin" / "ktrdr"
# The event at the beginning of each step: kind and title.
_FIRST_EVENTS = {
    "read secrets": ("step_started", "read the secrets"),
    "lock": ("step_started", "check the host"),
    "check": ("step_started", "check the host"),
    "fetch": ("step_started", "fetch the release"),
    "apply": ("step_started", "apply"),
    "verify": ("step_started", "wait until healthy"),
    "record": ("step_finished", "wait until healthy"),
}


class DeployCommand:
    """A running `ktrdr` command with JSON events.

    Attributes:
        events: Events so far.
        directory: Its own directory for temporary files.
    """

    def __init__(
        self, arguments: Sequence[str], env: Mapping[str, str], directory: Path, name: str
    ) -> None:
        self.events: list[dict[str, Any]] = []
        self.directory = directory / "tmp" / name
        self.directory.mkdir(parents=True)
        self.log = directory / f"{name}.log"
        self.arguments = tuple(arguments)
        self._condition = threading.Condition()
        self._ended = False
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(_PROGRAM), *arguments, "--json", "-v"],
                cwd=ROOT,
                env={**env, "TMPDIR": str(self.directory)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def is_over(self) -> bool:
        """True if the command has ended."""
        return self._process.poll() is not None

    def signal(self, by: signal.Signals) -> None:
        """Send a signal to the command."""
        self._process.send_signal(by)

    def reaches(self, step: str, host: str, timeout_s: float = 120) -> bool:
        """Wait until it begins a step on a host; return False if it ended before."""
        kind, title = _FIRST_EVENTS[step]

        def has_begun() -> bool:
            return any(
                event.get("event") == kind
                and event.get("title") == title
                and event.get("target") in ("", host)
                for event in self.events
            )

        with self._condition:
            self._condition.wait_for(lambda: has_begun() or self._ended, timeout_s)
            return has_begun()

    def last_step(self, host: str) -> str:
        """Return the title of the last step that it began on a host, or empty."""
        titles = [
            event["title"]
            for event in self.events
            if event.get("event") == "step_started" and event.get("target") == host
        ]
        return str(titles[-1]) if titles else ""

    def wait(self, timeout_s: float = 420) -> int:
        """Wait for the end; return the exit code, negative for a signal.

        Raises:
            subprocess.TimeoutExpired: The command did not end in time.
        """
        code = self._process.wait(timeout_s)
        self._reader.join(10)
        return code

    def kill(self) -> None:
        """Kill the command, if it is running."""
        if not self.is_over:
            self._process.kill()

    @property
    def output(self) -> str:
        """All output of the command."""
        lines = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in self.events)
        return lines + self.log.read_text(errors="replace")

    @property
    def error_line(self) -> str:
        """Error message at the end of the output, or empty."""
        lines = self.log.read_text(errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.startswith("error: ")), "")

    def ssh_processes(self, *, to: str | None = None) -> list[int]:
        """Return the ids of its ssh processes, optionally only those to a host."""
        pids = []
        for pid in process_ids():
            words = _command_line(pid)
            if not any(str(self.directory) in word for word in words):
                continue
            if to is None or to in words:
                pids.append(pid)
        return pids

    def remaining_files(self) -> list[str]:
        """Return the files in its directory for temporary files."""
        return sorted(str(path.relative_to(self.directory)) for path in self.directory.rglob("*"))

    def _read(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                self._add_event(line)
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    def _add_event(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            event = {"text": line.decode(errors="replace")}
        with self._condition:
            self.events.append(event)
            self._condition.notify_all()


def wait_until(condition: Any, timeout_s: float, every_s: float = 0.3) -> bool:
    """Poll until a condition is true; return False on timeout."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every_s)
    return True


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []
