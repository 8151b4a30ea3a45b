"""Orphans: files and directories that killed workers left behind and no operation refers to."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ktrdr.errors import HostNotReady
from ktrdr.operations.store import OperationStore
from ktrdr.schemas import OperationStatus

_DIRECTORIES: Final = ("results", "checkpoints", "logs")
# Attempts write to hidden directories named after operation and epoch until they publish.
_ATTEMPT_NAME: Final = re.compile(r"\.(?P<operation>op_\w+)\.(?P<epoch>\d+)")
_LASTING_NAME: Final = re.compile(r"(?P<operation>op_\w+?)(\.log)?")


@dataclass(frozen=True, slots=True)
class OperationFile:
    """File or directory that a worker wrote for an operation.

    Attributes:
        path: Full path.
        operation_id: Operation that it belongs to.
        epoch: Epoch of the lease it was written under. None for checkpoints and logs, which
            outlive the lease.
    """

    path: Path
    operation_id: str
    epoch: int | None

    def is_orphan(self, status: OperationStatus, epoch: int) -> bool:
        """Return whether the operation no longer needs this file.

        Args:
            status: Operation's status.
            epoch: Epoch of its newest lease.
        """
        if self.epoch is not None:
            return status.is_final or self.epoch < epoch
        # A failed or cancelled operation may be resumed from its checkpoint.
        return status is OperationStatus.COMPLETED


def find_operation_files(shared: Path) -> list[OperationFile]:
    """Return the directories of attempts, all checkpoints and all logs in a shared directory."""
    files = []
    for directory in _DIRECTORIES:
        for path in sorted((shared / directory).glob("*")):
            if match := _ATTEMPT_NAME.fullmatch(path.name):
                files.append(OperationFile(path, match["operation"], int(match["epoch"])))
            elif directory != "results" and (match := _LASTING_NAME.fullmatch(path.name)):
                files.append(OperationFile(path, match["operation"], None))
    return files


def select_orphans(
    files: Iterable[OperationFile], operations: Mapping[str, tuple[OperationStatus, int]]
) -> list[OperationFile]:
    """Return the files that no operation needs.

    Args:
        files: Files of the shared directory.
        operations: Status and epoch by operation. Files of other operations are kept, because
            they may belong to another database.
    """
    return [
        file
        for file in files
        if file.operation_id in operations and file.is_orphan(*operations[file.operation_id])
    ]


def delete_orphans(orphans: Iterable[OperationFile]) -> None:
    """Delete the given orphans."""
    for orphan in orphans:
        if orphan.path.is_dir():
            shutil.rmtree(orphan.path, ignore_errors=True)
        else:
            orphan.path.unlink(missing_ok=True)


async def remove_orphans(
    store: OperationStore, shared: Path, *, dry_run: bool = False
) -> list[OperationFile]:
    """Find and delete the orphans of a shared directory, and return them.

    Args:
        store: Operations that may refer to the files.
        shared: Shared directory.
        dry_run: True deletes nothing.

    Raises:
        HostNotReady: The shared directory cannot be searched.
    """
    try:
        files = await asyncio.to_thread(find_operation_files, shared)
        operations = await store.get_lease_epochs(sorted({file.operation_id for file in files}))
        orphans = select_orphans(files, operations)
        if not dry_run:
            await asyncio.to_thread(delete_orphans, orphans)
    except OSError as exc:
        raise HostNotReady(
            f"the shared directory {shared} cannot be searched ({exc.strerror})",
            hint="Check that it is mounted and belongs to user 10001.",
        ) from exc
    return orphans
