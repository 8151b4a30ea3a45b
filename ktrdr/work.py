"""Interface between a worker's child process and the handlers that it runs.

A handler is a function ``run(parameters, context) -> WorkResult``. It knows nothing of databases,
HTTP or leases: it computes, reports progress and saves checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ktrdr.errors import InvalidParameters


class DatasetMissing(InvalidParameters):
    """The operation's dataset does not exist, at least not on this host."""


class Stopped(Exception):
    """Request to end the run, raised by ``WorkContext.checkpoint`` once the checkpoint is safe."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Saved progress of an earlier attempt.

    Attributes:
        step: Last completed step, counted from 1.
        state: Small JSON values that the handler passed to ``checkpoint``.
        artifacts: Directory of the files saved with it, or None.
    """

    step: int
    state: Mapping[str, Any]
    artifacts: Path | None


@dataclass(frozen=True, slots=True)
class ChildResult:
    """Result of a child operation that has ended.

    Attributes:
        operation_id: Child operation.
        parameters: Parameters of the child operation.
        summary: Named figures, or None unless it completed.
        error: Reason why it did not complete, or None.
    """

    operation_id: str
    parameters: Mapping[str, Any]
    summary: Mapping[str, float | int | str | None] | None
    error: str | None


@dataclass(frozen=True, slots=True)
class WorkResult:
    """Result of a completed run.

    Attributes:
        summary: Named figures for tables; NaN is not allowed, use None.
        report: Name of the HTML page within the output directory.
        model: Name of the model's directory under ``models/``, or None. The model's files are
            those in ``output/model``.
    """

    summary: Mapping[str, float | int | str | None]
    report: str = "report.html"
    model: str | None = None


class WorkContext(Protocol):
    """Services of the worker that a handler may use."""

    @property
    def operation_id(self) -> str:
        """Operation that is being run."""
        ...

    @property
    def shared(self) -> Path:
        """``SHARED_MOUNT_PATH`` with ``data/``, ``strategies/`` and ``models/``; read only."""
        ...

    @property
    def child_results(self) -> Sequence[ChildResult]:
        """Results of the child operations in their order; empty without children."""
        ...

    @property
    def output(self) -> Path:
        """Empty directory for result files, which is published only on success."""
        ...

    @property
    def resume_from(self) -> Checkpoint | None:
        """Newest checkpoint of an earlier attempt, or None."""
        ...

    def progress(self, fraction: float, message: str) -> None:
        """Report the progress as a fraction from 0 to 1, and in a few words."""
        ...

    def checkpoint(
        self, step: int, state: Mapping[str, Any], artifacts: Mapping[str, bytes] | None = None
    ) -> None:
        """Save a checkpoint to resume from after ``step``.

        Raises:
            Stopped: The checkpoint is safe and the run must end now.
        """
        ...
