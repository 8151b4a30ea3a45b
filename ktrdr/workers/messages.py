"""Messages between worker and child process: one JSON object per line.

The child writes to a pipe that replaces its standard output. The worker writes to the child's
standard input. The child waits for an answer only after a checkpoint.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from ktrdr.schemas import ErrorDetail


@dataclass(frozen=True, slots=True)
class ChildTask:
    """First line that the child reads: the operation and its directories.

    Attributes:
        shared: Shared directory.
        output: Empty directory for the results.
        staging: Directory for the files of checkpoints that are not safe yet.
        checkpoint: Step, state and directory of the last checkpoint, or None.
        children: Results of the child operations, as `ktrdr.work.ChildResult` defines them.
        memory_limit: Bytes that the process may use; 0 for no limit.
    """

    operation_id: str
    operation_type: str
    parameters: dict[str, Any]
    shared: str
    output: str
    staging: str
    checkpoint: tuple[int, dict[str, Any], str | None] | None
    children: list[dict[str, Any]] = field(default_factory=list)
    memory_limit: int = 0


@dataclass(frozen=True, slots=True)
class ProgressReported:
    """Message with the progress from 0 to 1."""

    fraction: float
    message: str
    kind: Literal["progress"] = "progress"


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """Message with a checkpoint's state; its files are complete in ``directory``."""

    step: int
    state: dict[str, Any]
    directory: str | None
    kind: Literal["checkpoint"] = "checkpoint"


@dataclass(frozen=True, slots=True)
class TaskCompleted:
    """Last message of a completed task; its files are in the output directory."""

    summary: dict[str, Any]
    report: str
    model: str | None
    kind: Literal["done"] = "done"


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """Last message of a failed task.

    Attributes:
        error: `ErrorDetail` as JSON.
        is_transient: True if a retry may succeed.
        is_dataset_missing: True if it did not find its dataset.
    """

    error: dict[str, Any] = field(default_factory=dict)
    is_transient: bool = False
    is_dataset_missing: bool = False
    kind: Literal["failed"] = "failed"

    def to_error_detail(self) -> ErrorDetail:
        """Return the error as a schema."""
        return ErrorDetail.model_validate(self.error)


@dataclass(frozen=True, slots=True)
class TaskStopped:
    """Last message of a task that stopped after a checkpoint on request."""

    kind: Literal["paused"] = "paused"


ChildMessage = ProgressReported | CheckpointSaved | TaskCompleted | TaskFailed | TaskStopped
_MESSAGE_TYPES: Final = {
    "progress": ProgressReported,
    "checkpoint": CheckpointSaved,
    "done": TaskCompleted,
    "failed": TaskFailed,
    "paused": TaskStopped,
}

# The worker's answer to a checkpoint, and its request to stop, which may come at any time.
CONTINUE: Final = b'"go on"\n'
STOP: Final = b'"stop"\n'


def encode_message(message: ChildMessage | ChildTask) -> bytes:
    """Encode a message as one line; NaN is rejected, because JSON has none."""
    return json.dumps(asdict(message), allow_nan=False).encode() + b"\n"


def decode_message(line: bytes) -> ChildMessage:
    """Decode a line that the child wrote."""
    value = json.loads(line)
    message: ChildMessage = _MESSAGE_TYPES[value["kind"]](**value)
    return message


def decode_task(line: bytes) -> ChildTask:
    """Decode the first line that the worker wrote."""
    value = json.loads(line)
    checkpoint = value.pop("checkpoint")
    return ChildTask(**value, checkpoint=tuple(checkpoint) if checkpoint else None)
