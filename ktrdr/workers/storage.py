"""Where an operation's files are while it runs, and how they become its results.

Everything is written under a name of its own and renamed when it is complete, so that nobody ever
sees half a result. All paths are below the shared directory.
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
from ktrdr.operations.files import LOG, log_path, model_directory, results_directory
from ktrdr.operations.model import Lease

MODEL: Final = "model"
RESULT: Final = "result.json"
# What a directory on another host can be at one time and not at another.
TRANSIENT: Final = frozenset(
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


def fault(shared: Path, error: OSError) -> HostNotReady:
    """What is said when the shared directory cannot be used."""
    return HostNotReady(
        f"the shared directory {shared} cannot be used ({error.strerror})",
        hint="Check that it is mounted, has space and belongs to user 10001.",
    )


class Workspace:
    """The directories of one attempt at an operation.

    Every method that writes raises `HostNotReady` when the shared directory is missing, full or
    read-only.
    """

    def __init__(self, shared: Path, lease: Lease) -> None:
        self.shared = shared
        self._lease = lease
        name = f"{lease.operation_id}.{lease.epoch}"
        self.output = shared / "results" / f".{name}"
        self.staging = shared / "checkpoints" / f".{name}"
        self.log = log_path(shared, lease.operation_id)

    def prepare(self) -> None:
        """Makes the directories, and removes what earlier attempts could not clean up."""
        with self._writing():
            for directory in (self.output, self.staging):
                # Whoever held an earlier epoch can publish nothing from there any more.
                for earlier in directory.parent.glob(f".{self._lease.operation_id}.*"):
                    shutil.rmtree(earlier, ignore_errors=True)
                directory.mkdir(parents=True)
            self.log.parent.mkdir(exist_ok=True)

    @contextmanager
    def opened_log(self, heading: str) -> Iterator[BinaryIO]:
        """The log, to be appended to; it goes on from one attempt to the next."""
        with self._writing():
            file = self.log.open("ab")
            file.write(f"---- {heading}\n".encode())
            file.flush()
        with file:
            yield file

    def keep_checkpoint(self, step: int, directory: str) -> str:
        """Moves a checkpoint's files to where they count; gives the path relative to shared."""
        kept = Path("checkpoints") / self._lease.operation_id / f"{self._lease.epoch}-{step}"
        target = self.shared / kept
        with self._writing():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            Path(directory).rename(target)
            _sync(target.parent)
        return str(kept)

    def drop_checkpoints(self, *, keep: str | None = None) -> None:
        """Deletes the files of this operation's checkpoints, all but those of ``keep``."""
        for directory in (self.shared / "checkpoints" / self._lease.operation_id).glob("*"):
            if keep is None or directory != self.shared / keep:
                shutil.rmtree(directory, ignore_errors=True)
        if keep is None:
            shutil.rmtree(
                self.shared / "checkpoints" / self._lease.operation_id, ignore_errors=True
            )

    def publish(self, summary: Mapping[str, Any], report: str, model: str | None) -> dict[str, Any]:
        """Gives results and model their final names; gives what the operation's row keeps.

        Repeating it replaces what an earlier attempt published and could not account for.
        """
        with self._writing():
            if model is not None:
                target = model_directory(self._lease.operation_id, model)
                self._move(self.output / MODEL, target)
                summary = {**summary, "model": target}
            result: dict[str, Any] = {
                "summary": dict(summary),
                "directory": results_directory(self._lease.operation_id),
                "report": report,
            }
            self._write_result(result)
            shutil.copyfile(self.log, self.output / LOG)
            files = (path for path in self.output.rglob("*") if path.is_file())
            result["files"] = sorted(str(path.relative_to(self.output)) for path in files)
            self._move(self.output, result["directory"])
        return result

    def finish(self) -> None:
        """Deletes what is of no use once the results count: checkpoints, and the log's original."""
        self.drop_checkpoints()
        self.log.unlink(missing_ok=True)

    def clean_up(self) -> None:
        """Deletes what this attempt did not publish."""
        shutil.rmtree(self.output, ignore_errors=True)
        shutil.rmtree(self.staging, ignore_errors=True)

    def _write_result(self, result: Mapping[str, Any]) -> None:
        content = {"operation_id": self._lease.operation_id, **result}
        text = json.dumps(content, indent=2, sort_keys=True)
        (self.output / RESULT).write_text(f"{text}\n", encoding="utf-8")

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
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise fault(self.shared, exc) from exc


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
