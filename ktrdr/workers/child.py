"""The process that computes: ``python -m ktrdr.workers.child``.

It reads its task from standard input and knows nothing of databases or HTTP. Signals that stop the
worker are the parent's business; the child ends when it is told to, or when the parent is gone.
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
from ktrdr.operations.model import fault_of, read_parameters
from ktrdr.schemas import OperationFault, OperationType
from ktrdr.work import Checkpoint, Part, Stopped, WorkContext, WorkResult
from ktrdr.workers import memory, storage
from ktrdr.workers.messages import (
    STOP,
    Done,
    Failed,
    Message,
    Paused,
    Progress,
    Saved,
    Task,
    decode_task,
    encode,
)

Handler = Callable[[Any, WorkContext], WorkResult]

HANDLERS: Final = {
    OperationType.BACKTEST: "ktrdr.backtesting.handler",
    OperationType.TRAINING: "ktrdr.training.handler",
    OperationType.SWEEP: "ktrdr.backtesting.sweep",
}


class Parent:
    """The other end of the pipes."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._outgoing = outgoing
        self._stopping = threading.Event()
        self._answered = threading.Semaphore(0)
        threading.Thread(target=self._listen, args=(incoming,), daemon=True).start()

    @property
    def wants_to_stop(self) -> bool:
        """Whether the parent has asked to stop."""
        return self._stopping.is_set()

    def tell(self, message: Message) -> None:
        """Sends a message."""
        self._outgoing.write(encode(message))
        self._outgoing.flush()

    def ask(self, message: Saved) -> None:
        """Sends a checkpoint and waits until the parent says it is safe."""
        self.tell(message)
        self._answered.acquire()

    def _listen(self, incoming: BinaryIO) -> None:
        for line in incoming:
            if line == STOP:
                self._stopping.set()
            else:
                self._answered.release()
        # The parent is gone, and with it everybody who could want the result.
        os._exit(1)


class PipeContext:
    """What a handler sees of the worker; see `ktrdr.work.WorkContext`."""

    def __init__(self, task: Task, parent: Parent) -> None:
        self._parent = parent
        self._staging = Path(task.staging)
        self.operation_id = task.operation_id
        self.shared = Path(task.shared)
        self.output = Path(task.output)
        self.parts: Sequence[Part] = [Part(**part) for part in task.parts]
        self.resume_from = _checkpoint(task)

    def progress(self, fraction: float, message: str) -> None:
        """Tells the parent how far the work is."""
        self._parent.tell(Progress(min(max(fraction, 0.0), 1.0), message))

    def checkpoint(
        self, step: int, state: Mapping[str, Any], artifacts: Mapping[str, bytes] | None = None
    ) -> None:
        """Writes the files, has the parent make them count, and stops if that is wanted."""
        directory = self._write(step, artifacts) if artifacts else None
        self._parent.ask(Saved(step, dict(state), directory))
        if self._parent.wants_to_stop:
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


def run(task: Task, parent: Parent) -> Message:
    """Does the work and gives the last message about it."""
    kind = OperationType(task.operation_type)
    try:
        handler: Handler = importlib.import_module(HANDLERS[kind]).run
        result = handler(read_parameters(kind, task.parameters), PipeContext(task, parent))
    except Stopped:
        return Paused()
    except MemoryError:
        return Failed(_out_of_memory(task.memory).model_dump())
    except HostNotReady as exc:
        return Failed(fault_of(exc).model_dump(), transient=True)
    except OSError as exc:
        traceback.print_exc()
        return _failed_io(exc, Path(task.shared))
    except Exception as exc:  # noqa: BLE001  # whatever a handler raises is the operation's error
        traceback.print_exc()
        return Failed(fault_of(exc).model_dump())
    return Done(dict(result.summary), result.report, result.model)


def main() -> None:
    """Runs the one task that standard input names."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Whatever a library prints must not end up among the messages.
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    task = decode_task(sys.stdin.buffer.readline())
    memory.limit(task.memory)
    parent = Parent(sys.stdin.buffer, outgoing)
    parent.tell(run(task, parent))


def _failed_io(error: OSError, shared: Path) -> Failed:
    if error.errno in storage.TRANSIENT:
        return Failed(fault_of(storage.fault(shared, error)).model_dump(), transient=True)
    return Failed(fault_of(error).model_dump())


def _out_of_memory(allowed: int) -> OperationFault:
    return OperationFault(
        kind="out-of-memory",
        message=f"the operation needs more than the {allowed // 2**20} MiB of memory it may use",
        hint="Use fewer bars or a smaller model, or raise the worker's memory limit.",
    )


def _checkpoint(task: Task) -> Checkpoint | None:
    if task.checkpoint is None:
        return None
    step, state, directory = task.checkpoint
    return Checkpoint(step, state, Path(directory) if directory else None)


if __name__ == "__main__":
    main()
