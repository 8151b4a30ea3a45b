"""What parent and child say to each other: one JSON object a line.

The child writes to a pipe that was its standard output, the parent to the child's standard input.
The child waits for an answer after a checkpoint only.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ktrdr.schemas import OperationFault


@dataclass(frozen=True, slots=True)
class Task:
    """The first line the child reads: what to do, and where.

    Attributes:
        shared: The shared directory.
        output: An empty directory for the results.
        staging: A directory for the files of checkpoints that are not safe yet.
        checkpoint: Where an earlier attempt got to: step, state, directory of its files.
        parts: What the operation was divided into, as `ktrdr.work.Part` has it.
        memory: Bytes that the process may use; 0 for no limit.
    """

    operation_id: str
    operation_type: str
    parameters: dict[str, Any]
    shared: str
    output: str
    staging: str
    checkpoint: tuple[int, dict[str, Any], str | None] | None
    parts: list[dict[str, Any]] = field(default_factory=list)
    memory: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the work is, from 0 to 1."""

    fraction: float
    message: str
    kind: Literal["progress"] = "progress"


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint's state; its files, if it has any, are complete in ``directory``."""

    step: int
    state: dict[str, Any]
    directory: str | None
    kind: Literal["checkpoint"] = "checkpoint"


@dataclass(frozen=True, slots=True)
class Done:
    """The work is finished and its files are in the output directory."""

    summary: dict[str, Any]
    report: str
    model: str | None
    kind: Literal["done"] = "done"


@dataclass(frozen=True, slots=True)
class Failed:
    """The work ended in an error.

    Attributes:
        transient: Whether it may well go right at another time.
    """

    fault: dict[str, Any] = field(default_factory=dict)
    transient: bool = False
    kind: Literal["failed"] = "failed"

    def to_fault(self) -> OperationFault:
        """The error as the contract has it."""
        return OperationFault.model_validate(self.fault)


@dataclass(frozen=True, slots=True)
class Paused:
    """The work stopped after a checkpoint because it was asked to."""

    kind: Literal["paused"] = "paused"


Message = Progress | Saved | Done | Failed | Paused
_KINDS = {
    "progress": Progress,
    "checkpoint": Saved,
    "done": Done,
    "failed": Failed,
    "paused": Paused,
}

# The parent's answers to a checkpoint, and its request to stop, which may come at any time.
GO_ON = b'"go on"\n'
STOP = b'"stop"\n'


def encode(message: Message | Task) -> bytes:
    """A message as one line; NaN is refused, since JSON has none."""
    return json.dumps(asdict(message), allow_nan=False).encode() + b"\n"


def decode(line: bytes) -> Message:
    """The message that a line of the child is."""
    value = json.loads(line)
    message: Message = _KINDS[value["kind"]](**value)
    return message


def decode_task(line: bytes) -> Task:
    """The task that the parent's first line is."""
    value = json.loads(line)
    checkpoint = value.pop("checkpoint")
    return Task(**value, checkpoint=tuple(checkpoint) if checkpoint else None)
