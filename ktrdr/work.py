"""The contract between a worker's child process and the domain code it runs.

A handler is a function ``run(parameters, context) -> WorkResult``. It knows nothing of databases,
HTTP or leases: it computes, reports, checkpoints and asks whether to stop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


class Stopped(Exception):
    """Raised by ``WorkContext.checkpoint`` once the checkpoint is safe and the run must end."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where an earlier attempt got to.

    Attributes:
        step: The last step that was finished, counted from 1.
        state: Small JSON values; what a handler passed to ``checkpoint``.
        artifacts: A directory of files saved with it, or None.
    """

    step: int
    state: Mapping[str, Any]
    artifacts: Path | None


@dataclass(frozen=True, slots=True)
class Part:
    """One of the operations that another was divided into, at its end.

    Attributes:
        parameters: What it was asked to do.
        summary: Its figures, or None if it did not complete.
        error: Why it did not complete, or None.
    """

    operation_id: str
    parameters: Mapping[str, Any]
    summary: Mapping[str, float | int | str | None] | None
    error: str | None


@dataclass(frozen=True, slots=True)
class WorkResult:
    """What a finished run found.

    Attributes:
        summary: Named figures for tables; NaN is not allowed, use None.
        report: The name of the HTML page within the output directory.
        model: The directory under ``models/`` that the run's model belongs in, as NAME, or None.
            Its files are those in ``output/model``.
    """

    summary: Mapping[str, float | int | str | None]
    report: str = "report.html"
    model: str | None = None


class WorkContext(Protocol):
    """What a handler may use of the world."""

    @property
    def operation_id(self) -> str:
        """The operation being run."""
        ...

    @property
    def shared(self) -> Path:
        """``SHARED_MOUNT_PATH``, with ``data/``, ``strategies/`` and ``models/``; read only."""
        ...

    @property
    def parts(self) -> Sequence[Part]:
        """The operations this one was divided into, in their order; empty if it was not."""
        ...

    @property
    def output(self) -> Path:
        """An empty directory for result files; published under its final name only on success."""
        ...

    @property
    def resume_from(self) -> Checkpoint | None:
        """The newest checkpoint of an earlier attempt, or None."""
        ...

    def progress(self, fraction: float, message: str) -> None:
        """Says how far the run is, 0 to 1, in a few words."""
        ...

    def checkpoint(
        self, step: int, state: Mapping[str, Any], artifacts: Mapping[str, bytes] | None = None
    ) -> None:
        """Saves what is needed to go on after ``step``.

        Raises:
            Stopped: The checkpoint is safe and the run must end now.
        """
        ...


@dataclass(slots=True)
class LocalContext:
    """A context with no worker behind it, for tests and for running a handler by hand."""

    operation_id: str
    shared: Path
    output: Path
    parts: Sequence[Part] = ()
    resume_from: Checkpoint | None = None
    stop_after_step: int | None = None
    messages: list[tuple[float, str]] = field(default_factory=list)
    checkpoints: list[tuple[int, Mapping[str, Any], Mapping[str, bytes]]] = field(
        default_factory=list
    )

    def progress(self, fraction: float, message: str) -> None:
        """Keeps the message."""
        self.messages.append((fraction, message))

    def checkpoint(
        self, step: int, state: Mapping[str, Any], artifacts: Mapping[str, bytes] | None = None
    ) -> None:
        """Keeps the checkpoint, and stops after the step it was told to stop after."""
        self.checkpoints.append((step, dict(state), dict(artifacts or {})))
        if self.stop_after_step == step:
            raise Stopped
