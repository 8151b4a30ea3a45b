"""Child process that computes an operation: ``python -m ktrdr.workers.child``.

It reads its task from standard input and knows nothing of databases or HTTP. It ignores signals,
which the worker handles. It ends on the worker's request, or when the worker is gone.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from ktrdr.errors import HostNotReady
from ktrdr.operations.model import parse_parameters, to_error_detail
from ktrdr.schemas import ErrorDetail, OperationType
from ktrdr.work import (
    Checkpoint,
    ChildResult,
    DatasetMissing,
    Stopped,
    WorkContext,
    WorkResult,
)
from ktrdr.workers.memory import limit_memory
from ktrdr.workers.messages import (
    STOP,
    CheckpointSaved,
    ChildMessage,
    ChildTask,
    ProgressReported,
    TaskCompleted,
    TaskFailed,
    TaskStopped,
    decode_task,
    encode_message,
)
from ktrdr.workers.storage import TRANSIENT_ERRNOS, shared_directory_error

Handler = Callable[[Any, WorkContext], WorkResult]

HANDLERS: Final = {
    OperationType.BACKTEST: "ktrdr.backtesting.handler",
    OperationType.TRAINING: "ktrdr.training.handler",
    OperationType.SWEEP: "ktrdr.backtesting.sweep",
}


class WorkerConnection:
    """Pipes to the worker."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._outgoing = outgoing
        self._stop_requested = threading.Event()
        self._answered = threading.Semaphore(0)
        threading.Thread(target=self._listen, args=(incoming,), daemon=True).start()

    @property
    def is_stop_requested(self) -> bool:
        """True once the worker has asked to stop."""
        return self._stop_requested.is_set()

    def send(self, message: ChildMessage) -> None:
        """Send a message."""
        self._outgoing.write(encode_message(message))
        self._outgoing.flush()

    def send_and_wait(self, message: CheckpointSaved) -> None:
        """Send a checkpoint and wait until the worker has recorded it."""
        self.send(message)
        self._answered.acquire()

    def _listen(self, incoming: BinaryIO) -> None:
        for line in incoming:
            if line == STOP:
                self._stop_requested.set()
            else:
                self._answered.release()
        # The worker is gone, so there is no recipient for the result.
        os._exit(1)


class ChildContext:
    """Context of a handler in a worker's child process; see `ktrdr.work.WorkContext`."""

    def __init__(self, task: ChildTask, worker: WorkerConnection) -> None:
        self._worker = worker
        self._staging = Path(task.staging)
        self.operation_id = task.operation_id
        self.shared = Path(task.shared)
        self.output = Path(task.output)
        self.child_results: Sequence[ChildResult] = [
            ChildResult(**child) for child in task.children
        ]
        self.resume_from: Checkpoint | None = None
        if task.checkpoint is not None:
            step, state, directory = task.checkpoint
            self.resume_from = Checkpoint(step, state, Path(directory) if directory else None)

    def progress(self, fraction: float, message: str) -> None:
        """Send the progress to the worker."""
        self._worker.send(ProgressReported(min(max(fraction, 0.0), 1.0), message))

    def checkpoint(
        self, step: int, state: Mapping[str, Any], artifacts: Mapping[str, bytes] | None = None
    ) -> None:
        """Write the files, have the worker record the checkpoint, and stop if it asked to."""
        directory = self._write(step, artifacts) if artifacts else None
        self._worker.send_and_wait(CheckpointSaved(step, dict(state), directory))
        if self._worker.is_stop_requested:
            raise Stopped

    def _write(self, step: int, artifacts: Mapping[str, bytes]) -> str:
        directory = self._staging / str(step)
        directory.mkdir(parents=True)
        for name, content in artifacts.items():
            with (directory / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        return str(directory)


def run_task(task: ChildTask, worker: WorkerConnection) -> ChildMessage:
    """Run the task's handler and return the last message."""
    operation_type = OperationType(task.operation_type)
    try:
        handler: Handler = importlib.import_module(HANDLERS[operation_type]).run
        parameters = parse_parameters(operation_type, task.parameters)
        result = handler(parameters, ChildContext(task, worker))
    except Stopped:
        return TaskStopped()
    except MemoryError:
        error = ErrorDetail(
            kind="out-of-memory",
            message="the operation needs more than its memory limit of"
            f" {task.memory_limit // 2**20} MiB",
            hint="Use fewer bars or a smaller model, or raise the worker's memory limit.",
        )
        return TaskFailed(error.model_dump())
    except HostNotReady as exc:
        return TaskFailed(to_error_detail(exc).model_dump(), is_transient=True)
    except OSError as exc:
        traceback.print_exc()
        if exc.errno in TRANSIENT_ERRNOS:
            error = to_error_detail(shared_directory_error(Path(task.shared), exc))
            return TaskFailed(error.model_dump(), is_transient=True)
        return TaskFailed(to_error_detail(exc).model_dump())
    except Exception as exc:  # noqa: BLE001  # any exception of a handler is the operation's error
        traceback.print_exc()
        is_missing = isinstance(exc, DatasetMissing)
        return TaskFailed(to_error_detail(exc).model_dump(), is_dataset_missing=is_missing)
    return TaskCompleted(dict(result.summary), result.report, result.model)


def main() -> None:
    """Run the task that standard input describes, or only load a module within a memory limit."""
    if len(sys.argv) > 1:
        os.nice(10)
        limit_memory(int(sys.argv[2]))
        importlib.import_module(sys.argv[1])
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # The output of libraries must not mix with the messages.
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    task = decode_task(sys.stdin.buffer.readline())
    limit_memory(task.memory_limit)
    worker = WorkerConnection(sys.stdin.buffer, outgoing)
    worker.send(run_task(task, worker))


if __name__ == "__main__":
    main()
