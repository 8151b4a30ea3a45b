"""Where an operation's files are while it runs, and how they become its results.

Everything is written under a name of its own and renamed when it is complete, so that nobody ever
sees half a result. All paths are below the shared directory.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ktrdr.errors import HostNotReady
from ktrdr.operations.model import Lease, model_directory, results_directory

MODEL: Final = "model"
LOG: Final = "operation.log"
RESULT: Final = "result.json"


class Workspace:
    """The directories of one attempt at an operation."""

    def __init__(self, shared: Path, lease: Lease) -> None:
        self._shared = shared
        self._lease = lease
        name = f"{lease.operation_id}.{lease.epoch}"
        self.data = shared / "data"
        self.output = shared / "results" / f".{name}"
        self.staging = shared / "checkpoints" / f".{name}"

    @property
    def log(self) -> Path:
        """What the child writes to its standard error."""
        return self.output / LOG

    def prepare(self) -> None:
        """Makes the directories, and removes what earlier attempts could not clean up.

        Raises:
            HostNotReady: The shared directory is missing, full or read-only.
        """
        try:
            for directory in (self.output, self.staging):
                # Whoever held an earlier epoch can publish nothing from there any more.
                for earlier in directory.parent.glob(f".{self._lease.operation_id}.*"):
                    shutil.rmtree(earlier, ignore_errors=True)
                directory.mkdir(parents=True)
        except OSError as exc:
            raise HostNotReady(
                f"the shared directory {self._shared} cannot be written ({exc.strerror})",
                hint="Check that it is mounted, has space and belongs to user 10001.",
            ) from exc

    def keep_checkpoint(self, step: int, directory: str) -> str:
        """Moves a checkpoint's files to where they count; gives the path relative to shared."""
        kept = Path("checkpoints") / self._lease.operation_id / f"{self._lease.epoch}-{step}"
        target = self._shared / kept
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        Path(directory).rename(target)
        _sync(target.parent)
        return str(kept)

    def drop_checkpoints(self, *, keep: str | None = None) -> None:
        """Deletes the files of this operation's checkpoints, all but those of ``keep``."""
        for directory in (self._shared / "checkpoints" / self._lease.operation_id).glob("*"):
            if keep is None or directory != self._shared / keep:
                shutil.rmtree(directory, ignore_errors=True)
        if keep is None:
            shutil.rmtree(
                self._shared / "checkpoints" / self._lease.operation_id, ignore_errors=True
            )

    def publish(self, summary: Mapping[str, Any], report: str, model: str | None) -> dict[str, Any]:
        """Gives results and model their final names; gives what the operation's row keeps.

        Repeating it replaces what an earlier attempt published and could not account for.
        """
        if model is not None:
            target = model_directory(self._lease.operation_id, model)
            self._move(self.output / MODEL, target)
            summary = {**summary, "model": target}
        result: dict[str, Any] = {
            "summary": dict(summary),
            "directory": results_directory(self._lease.operation_id),
            "report": report,
        }
        (self.output / RESULT).write_text(
            json.dumps(
                {"operation_id": self._lease.operation_id, **result}, indent=2, sort_keys=True
            )
            + "\n",
            encoding="utf-8",
        )
        result["files"] = sorted(
            str(path.relative_to(self.output)) for path in self.output.rglob("*") if path.is_file()
        )
        self._move(self.output, result["directory"])
        return result

    def keep_log(self) -> None:
        """Puts a failed attempt's log where its results would be."""
        target = self._shared / results_directory(self._lease.operation_id)
        target.mkdir(parents=True, exist_ok=True)
        self.log.replace(target / LOG)

    def clean_up(self) -> None:
        """Deletes what this attempt did not publish."""
        shutil.rmtree(self.output, ignore_errors=True)
        shutil.rmtree(self.staging, ignore_errors=True)

    def _move(self, source: Path, target: str) -> None:
        for path in source.rglob("*"):
            if path.is_file():
                _sync(path)
        final = self._shared / target
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():
            shutil.rmtree(final)
        source.rename(final)
        _sync(final.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
