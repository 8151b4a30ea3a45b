"""The operation that a worker runs now."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ktrdr.schemas import OperationStatus, OperationType
from ktrdr.workers.process import Child
from ktrdr.workers.storage import Workspace


@dataclass(slots=True)
class Running:
    """The operation that runs now.

    Attributes:
        stop_reason: What it is to become once the child has stopped: pending when the worker makes
            way, cancelled when somebody wants that; None while it just runs.
    """

    operation_id: str
    operation_type: OperationType
    workspace: Workspace
    child: Child | None = None
    progress: float | None = None
    message: str | None = None
    stop_reason: OperationStatus | None = None

    def stop(self, reason: OperationStatus, patience_s: float) -> None:
        """Asks the child to stop after its next checkpoint; kills it when that takes too long."""
        if self.stop_reason is None:
            self.stop_reason = reason
            if self.child is not None:
                self.child.ask_to_stop()
                asyncio.get_running_loop().call_later(patience_s, self.child.kill)

    def kill(self) -> None:
        """Ends the child at once."""
        if self.child is not None:
            self.child.kill()
