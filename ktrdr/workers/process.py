"""The operation that a worker runs, and the child process that computes it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from ktrdr.schemas import ErrorDetail, OperationStatus, OperationType
from ktrdr.workers.messages import STOP, ChildMessage, ChildTask, decode_message, encode_message
from ktrdr.workers.storage import Workspace

# The state of a checkpoint must fit into one line.
MAX_LINE_BYTES: Final = 64 * 1024 * 1024
# The child needs no secret, so it inherits only these variables.
INHERITED_VARIABLES: Final = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "MPLCONFIGDIR",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "KTRDR_COMMIT",
)
# Each child has a processor of its own, so numerical libraries must not start more threads.
ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
QUOTED_LOG_LINES: Final = 5


class ChildProcess:
    """Running child process."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def send(self, line: bytes) -> None:
        """Send a line to the child; nothing happens if the child has ended."""
        assert self._process.stdin is not None  # noqa: S101  # started with a pipe
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(line)

    def kill(self) -> None:
        """Kill the child immediately; nothing happens if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def messages(self) -> AsyncIterator[ChildMessage]:
        """Yield the child's messages until it ends."""
        assert self._process.stdout is not None  # noqa: S101  # started with a pipe
        async for line in self._process.stdout:
            yield decode_message(line)

    async def wait(self) -> int:
        """Wait for the end, and return the exit code, which is negative for a signal."""
        return await self._process.wait()


@dataclass(slots=True)
class CurrentOperation:
    """Operation that the worker currently runs.

    Attributes:
        operation_id: Claimed operation.
        operation_type: Type of the operation.
        workspace: Directories of the attempt.
        child: Child process, or None before it starts.
        progress: Last reported progress from 0 to 1, or None.
        message: Last reported progress in words, or None.
        stop_reason: Status that the operation gets once the child has stopped: pending when it
            is requeued, cancelled on request. None without a request to stop.
    """

    operation_id: str
    operation_type: OperationType
    workspace: Workspace
    child: ChildProcess | None = None
    progress: float | None = None
    message: str | None = None
    stop_reason: OperationStatus | None = None

    def stop(self, reason: OperationStatus, timeout_s: float) -> None:
        """Ask the child to stop after its next checkpoint, and kill it after ``timeout_s``.

        The first reason counts. Without a child, only the reason is recorded.
        """
        if self.stop_reason is None:
            self.stop_reason = reason
            if self.child is not None:
                self._stop_child(self.child, timeout_s)

    def set_child(self, child: ChildProcess, stop_timeout_s: float) -> None:
        """Record the started child, and stop it if the worker was asked to stop meanwhile."""
        self.child = child
        if self.stop_reason is not None:
            self._stop_child(child, stop_timeout_s)

    def kill(self) -> None:
        """Kill the child immediately."""
        if self.child is not None:
            self.child.kill()

    def _stop_child(self, child: ChildProcess, timeout_s: float) -> None:
        child.send(STOP)
        asyncio.get_running_loop().call_later(timeout_s, child.kill)


def child_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables of a child process."""
    names = (*INHERITED_VARIABLES, *environment.get("CHILD_VARIABLES", "").split())
    return {name: environment[name] for name in names if name in environment} | ONE_THREAD


@asynccontextmanager
async def start_child(
    task: ChildTask, log: BinaryIO, environment: Mapping[str, str] = os.environ
) -> AsyncIterator[ChildProcess]:
    """Start a child process for the block, and kill it at the end.

    Args:
        task: Task that the child works on.
        log: File for its standard error.
        environment: Variables, of which the child inherits a few.

    Raises:
        OSError: It cannot be started.
    """
    process = await create_subprocess_exec(
        sys.executable,
        "-m",
        "ktrdr.workers.child",
        stdin=PIPE,
        stdout=PIPE,
        stderr=log,
        limit=MAX_LINE_BYTES,
        env=child_environment(environment),
        # The parent alone handles signals to the worker's process group.
        start_new_session=True,
    )
    child = ChildProcess(process)
    try:
        child.send(encode_message(task))
        yield child
    finally:
        child.kill()
        await process.wait()


def explain_exit(exit_code: int, log: Path) -> ErrorDetail:
    """Return the error of a child that ended without a last message."""
    if exit_code == -signal.SIGKILL:
        return ErrorDetail(
            kind="killed",
            message="the operation's process was killed, probably for lack of memory",
            hint="Use fewer bars or a smaller model, or raise the worker's memory limit.",
        )
    cause = f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
    return ErrorDetail(
        kind="died",
        message=f"the operation's process ended with {cause}: {_last_lines(log)}",
        hint="See the operation's log for details.",
    )


def _last_lines(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return "its log cannot be read"
    return " | ".join(lines[-QUOTED_LOG_LINES:]) or "its log is empty"
