"""The child process as its parent sees it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Final

from ktrdr.schemas import OperationFault
from ktrdr.workers.messages import STOP, Message, Task, decode, encode

# A checkpoint's state is one line; it has to fit.
MAX_LINE: Final = 64 * 1024 * 1024
# The work needs no secret, so the child gets none: what is not named here stays with the parent.
PASSED_ON: Final = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "MPLCONFIGDIR",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "KTRDR_COMMIT",
)
# Workers are given whole processors, one a child; numerical libraries must not start more threads.
ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
LOG_LINES: Final = 5


class Child:
    """A running child."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def send(self, line: bytes) -> None:
        """Writes a line to the child; a child that is gone does not mind."""
        assert self._process.stdin is not None  # noqa: S101  # started with a pipe
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(line)

    def ask_to_stop(self) -> None:
        """Asks the child to end after its next checkpoint."""
        self.send(STOP)

    def kill(self) -> None:
        """Ends the child at once; harmless when it has ended already."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def messages(self) -> AsyncIterator[Message]:
        """What the child says, until it ends."""
        assert self._process.stdout is not None  # noqa: S101  # started with a pipe
        async for line in self._process.stdout:
            yield decode(line)

    async def exit_code(self) -> int:
        """Waits for the end; negative for a signal."""
        return await self._process.wait()


@asynccontextmanager
async def started(
    task: Task, log: BinaryIO, environment: Mapping[str, str] = os.environ
) -> AsyncIterator[Child]:
    """A child that works on ``task`` and writes its errors to ``log``; it ends with the block."""
    process = await create_subprocess_exec(
        sys.executable,
        "-m",
        "ktrdr.workers.child",
        stdin=PIPE,
        stdout=PIPE,
        stderr=log,
        limit=MAX_LINE,
        env={**{k: environment[k] for k in PASSED_ON if k in environment}, **ONE_THREAD},
        # Signals meant for the worker's process group are for the parent to deal with.
        start_new_session=True,
    )
    child = Child(process)
    try:
        child.send(encode(task))
        yield child
    finally:
        child.kill()
        await process.wait()


def why_it_died(exit_code: int, log: Path) -> OperationFault:
    """Explains a child that ended without a last message."""
    if exit_code == -signal.SIGKILL:
        return OperationFault(
            kind="killed",
            message="the process doing the work was killed, most likely for want of memory",
            hint="Use fewer bars or a smaller model, or raise the worker's memory limit.",
        )
    how = f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
    return OperationFault(
        kind="died",
        message=f"the process doing the work ended with {how}: {_last_lines(log)}",
        hint="The operation's log has the rest.",
    )


def _last_lines(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return "its log cannot be read"
    return " | ".join(lines[-LOG_LINES:]) or "it said nothing"
