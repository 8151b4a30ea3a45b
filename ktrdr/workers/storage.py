"""Files of a running operation, and their publication as results.

Everything is written under a temporary name and renamed when it is complete, so no reader sees
half a result. All paths are below the shared directory.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from ktrdr.errors import HostNotReady
from ktrdr.operations.files import LOG_NAME, log_path, model_directory, results_directory
from ktrdr.operations.model import Lease

MODEL: Final = "model"
RESULT: Final = "result.json"
# Errors of a shared directory that may not occur again on a retry.
TRANSIENT_ERRNOS: Final = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        errno.ESTALE,
        errno.ENOTCONN,
        errno.EHOSTDOWN,
        errno.ETIMEDOUT,
    }
)


def shared_directory_error(shared: Path, error: OSError) -> HostNotReady:
    """Return the error of an unusable shared directory."""
    return HostNotReady(
        f"the shared directory {shared} cannot be used ({error.strerror})",
        hint="Check that it is mounted, has space and belongs to user 10001.",
    )


class Workspace:
    """Directories of one attempt at an operation.

    Every method that writes raises `HostNotReady` if the shared directory is missing, full or
    read-only.
    """

    def __init__(self, shared: Path, lease: Lease) -> None:
        self.shared = shared
        self._lease = lease
        name = f"{lease.operation_id}.{lease.epoch}"
        self.output = shared / "results" / f".{name}"
        self.staging = shared / "checkpoints" / f".{name}"
        self.log = log_path(shared, lease.operation_id)
        self._checkpoints = shared / "checkpoints" / lease.operation_id

    def create_directories(self) -> None:
        """Create the directories, and delete those of earlier attempts."""
        with self._translate_errors():
            for directory in (self.output, self.staging):
                # An earlier lease holder can publish nothing from these any more.
                for earlier in directory.parent.glob(f".{self._lease.operation_id}.*"):
                    shutil.rmtree(earlier, ignore_errors=True)
                directory.mkdir(parents=True)
            self.log.parent.mkdir(exist_ok=True)

    @contextmanager
    def open_log(self, heading: str) -> Iterator[BinaryIO]:
        """Open the log, to which all attempts append, and write a heading."""
        with self._translate_errors():
            file = self.log.open("ab")
            file.write(f"---- {heading}\n".encode())
            file.flush()
        with file:
            yield file

    def keep_checkpoint(self, step: int, directory: str) -> str:
        """Move a checkpoint's files to their final place; return it relative to ``shared``."""
        final = self._checkpoints / f"{self._lease.epoch}-{step}"
        with self._translate_errors():
            final.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(final, ignore_errors=True)
            Path(directory).rename(final)
            _sync(final.parent)
        return str(final.relative_to(self.shared))

    def delete_checkpoints(self, *, keep: str | None = None) -> None:
        """Delete the files of this operation's checkpoints, except those of ``keep``."""
        if keep is None:
            shutil.rmtree(self._checkpoints, ignore_errors=True)
            return
        for directory in self._checkpoints.glob("*"):
            if directory != self.shared / keep:
                shutil.rmtree(directory, ignore_errors=True)

    def publish(self, summary: Mapping[str, Any], report: str, model: str | None) -> dict[str, Any]:
        """Move results and model to their final place; return the result for the operation's row.

        Repeating this replaces what an earlier attempt published without recording it.
        """
        with self._translate_errors():
            if model is not None:
                target = model_directory(self._lease.operation_id, model)
                self._move(self.output / MODEL, target)
                summary = {**summary, "model": target}
            result: dict[str, Any] = {
                "summary": dict(summary),
                "directory": results_directory(self._lease.operation_id),
                "report": report,
            }
            content = {"operation_id": self._lease.operation_id, **result}
            text = json.dumps(content, indent=2, sort_keys=True)
            (self.output / RESULT).write_text(f"{text}\n", encoding="utf-8")
            shutil.copyfile(self.log, self.output / LOG_NAME)
            files = (path for path in self.output.rglob("*") if path.is_file())
            result["files"] = sorted(str(path.relative_to(self.output)) for path in files)
            self._move(self.output, result["directory"])
        return result

    def finish(self) -> None:
        """Delete the checkpoints and the log's original, once the result is recorded."""
        self.delete_checkpoints()
        self.log.unlink(missing_ok=True)

    def clean_up(self) -> None:
        """Delete the files that this attempt did not publish."""
        shutil.rmtree(self.output, ignore_errors=True)
        shutil.rmtree(self.staging, ignore_errors=True)

    def _move(self, source: Path, target: str) -> None:
        for path in source.rglob("*"):
            if path.is_file():
                _sync(path)
        final = self.shared / target
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():
            shutil.rmtree(final)
        source.rename(final)
        _sync(final.parent)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise shared_directory_error(self.shared, exc) from exc


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
