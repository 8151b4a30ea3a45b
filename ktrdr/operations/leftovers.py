"""Files of attempts that nobody is going to finish, left behind by workers that were killed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ktrdr.schemas import OperationStatus

# Where attempts write until they publish (hidden, with the epoch), and where checkpoints are kept.
_PLACES: Final = ("results", "checkpoints", "logs")
_ATTEMPT: Final = re.compile(r"\.(?P<operation>op_\w+)\.(?P<epoch>\d+)")
_KEPT: Final = re.compile(r"(?P<operation>op_\w+?)(\.log)?")


@dataclass(frozen=True, slots=True)
class Leftover:
    """A directory, or a log, that may have lost its purpose.

    Attributes:
        path: Where it is.
        operation_id: Whose it is.
        epoch: The lease it was written under, or None for checkpoints and logs, which outlive it.
    """

    path: Path
    operation_id: str
    epoch: int | None

    def is_stale(self, status: OperationStatus, epoch: int) -> bool:
        """Whether nobody can need it any more.

        Args:
            status: What has become of the operation.
            epoch: Its present lease.
        """
        if self.epoch is not None:
            return status.is_final or self.epoch < epoch
        # A failed or cancelled operation may be resumed from its checkpoint.
        return status is OperationStatus.COMPLETED


def find(shared: Path) -> list[Leftover]:
    """Everything of attempts, all checkpoints and all logs in a shared directory."""
    found = []
    for place in _PLACES:
        for path in sorted((shared / place).glob("*")):
            if attempt := _ATTEMPT.fullmatch(path.name):
                found.append(Leftover(path, attempt["operation"], int(attempt["epoch"])))
            elif place != "results" and (kept := _KEPT.fullmatch(path.name)):
                found.append(Leftover(path, kept["operation"], None))
    return found


def stale(
    leftovers: Iterable[Leftover], known: Mapping[str, tuple[OperationStatus, int]]
) -> list[Leftover]:
    """Those that nobody can need any more.

    Args:
        leftovers: What was found.
        known: Status and epoch by operation. What belongs to an operation that is not among them
            stays: it may be another database's.
    """
    return [
        each
        for each in leftovers
        if each.operation_id in known and each.is_stale(*known[each.operation_id])
    ]


def remove(leftovers: Iterable[Leftover]) -> None:
    """Removes them."""
    for each in leftovers:
        if each.path.is_dir():
            shutil.rmtree(each.path, ignore_errors=True)
        else:
            each.path.unlink(missing_ok=True)
