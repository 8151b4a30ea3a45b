"""Test double of a worker's context, which records messages and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ktrdr.work import Checkpoint, ChildResult, Stopped


@dataclass(slots=True)
class RecordingContext:
    """Context of a handler without a worker; see `ktrdr.work.WorkContext`.

    Attributes:
        stop_after_step: Step after which the handler is stopped, or None.
        messages: Reported progress.
        checkpoints: Step, state and artifacts of every checkpoint.
    """

    operation_id: str
    shared: Path
    output: Path
    child_results: Sequence[ChildResult] = ()
    resume_from: Checkpoint | None = None
    stop_after_step: int | None = None
    messages: list[tuple[float, str]] = field(default_factory=list)
    checkpoints: list[tuple[int, Mapping[str, Any], Mapping[str, bytes]]] = field(
        default_factory=list
    )

    def progress(self, fraction: float, message: str) -> None:
        self.messages.append((fraction, message))

    def checkpoint(
        self, step: int, state: Mapping[str, Any], artifacts: Mapping[str, bytes] | None = None
    ) -> None:
        self.checkpoints.append((step, dict(state), dict(artifacts or {})))
        if self.stop_after_step == step:
            raise Stopped
