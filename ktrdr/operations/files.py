"""Where an operation's files are, relative to the shared directory."""

from __future__ import annotations

from pathlib import Path
from typing import Final

LOG: Final = "operation.log"
# What is read of a log at once.
LOG_PART: Final = 256 * 1024


def results_directory(operation_id: str) -> str:
    """Where an operation's results go."""
    return f"results/{operation_id.removeprefix('op_')}"


def model_directory(operation_id: str, name: str) -> str:
    """Where a training's model goes."""
    version = operation_id.split("_", 2)[2]
    return f"models/{name}_{version}"


def log_path(shared: Path, operation_id: str) -> Path:
    """The log of an operation that has no result yet; all its attempts write there."""
    return shared / "logs" / f"{operation_id}.log"


def published_log_path(shared: Path, operation_id: str) -> Path:
    """The log of a completed operation, kept with its results."""
    return shared / results_directory(operation_id) / LOG


def read_from(log: Path, offset: int) -> bytes:
    """The part of a log that begins at ``offset`` bytes, 256 KiB at most; empty without one."""
    try:
        with log.open("rb") as file:
            file.seek(offset)
            return file.read(LOG_PART)
    except FileNotFoundError:
        return b""
