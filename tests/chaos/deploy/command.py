"""The deploy under test: started, listened to, and struck when it has come so far."""

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
from tests.chaos.deploy.hosts import numbers_of_processes

_PROGRAM = ROOT / ".venv" / "bin" / "ktrdr"
# The event that begins each step: its kind and title.
_BEGINS = {
    "read secrets": ("step_started", "read the secrets"),
    "lock": ("step_started", "check the host"),
    "check": ("step_started", "check the host"),
    "fetch": ("step_started", "fetch the release"),
    "apply": ("step_started", "apply"),
    "verify": ("step_started", "wait until healthy"),
    "record": ("step_finished", "wait until healthy"),
}


class Running:
    """A `ktrdr` command that tells what it does as lines of JSON.

    Attributes:
        events: What it has told so far.
        directory: Where it keeps its temporary files; a place of its own.
    """

    def __init__(
        self, arguments: Sequence[str], env: Mapping[str, str], directory: Path, name: str
    ) -> None:
        self.events: list[dict[str, Any]] = []
        self.directory = directory / "tmp" / name
        self.directory.mkdir(parents=True)
        self.log = directory / f"{name}.log"
        self.arguments = tuple(arguments)
        self._heard = threading.Condition()
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
        """Whether it has ended."""
        return self._process.poll() is not None

    def signal(self, by: signal.Signals) -> None:
        """Sends it a signal."""
        self._process.send_signal(by)

    def reaches(self, step: str, host: str, timeout_s: float = 120) -> bool:
        """Waits until it begins a step on a host; False when it ended without."""
        kind, title = _BEGINS[step]

        def has_begun() -> bool:
            return any(
                event.get("event") == kind
                and event.get("title") == title
                and event.get("target") in ("", host)
                for event in self.events
            )

        with self._heard:
            self._heard.wait_for(lambda: has_begun() or self._ended, timeout_s)
            return has_begun()

    def wait(self, timeout_s: float = 420) -> int:
        """Its exit code, negative for the signal that ended it.

        Raises:
            subprocess.TimeoutExpired: It goes on and on.
        """
        code = self._process.wait(timeout_s)
        self._reader.join(10)
        return code

    def end(self) -> None:
        """Kills it, if it still runs."""
        if not self.is_over:
            self._process.kill()

    @property
    def output(self) -> str:
        """All that it wrote."""
        lines = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in self.events)
        return lines + self.log.read_text(errors="replace")

    @property
    def complaint(self) -> str:
        """The error that it ended with; else empty."""
        lines = self.log.read_text(errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.startswith("error: ")), "")

    def ssh(self, *, to: str | None = None) -> list[int]:
        """The ssh processes that it has started; with a host's name, those to that host."""
        found = []
        for pid in numbers_of_processes():
            words = _words(pid)
            if not any(str(self.directory) in word for word in words):
                continue
            if to is None or to in words:
                found.append(pid)
        return found

    def left_over(self) -> list[str]:
        """What is still in its directory for temporary files."""
        return sorted(str(path.relative_to(self.directory)) for path in self.directory.rglob("*"))

    def _read(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                self._hear(line)
        with self._heard:
            self._ended = True
            self._heard.notify_all()

    def _hear(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            event = {"text": line.decode(errors="replace")}
        with self._heard:
            self.events.append(event)
            self._heard.notify_all()


def wait_until(condition: Any, timeout_s: float, every_s: float = 0.3) -> bool:
    """Whether a condition came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every_s)
    return True


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []
