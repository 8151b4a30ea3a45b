"""Paths of an operation's files, and the reading of its log."""

from __future__ import annotations

from pathlib import Path
from typing import Final

LOG_NAME: Final = "operation.log"
LOG_CHUNK_BYTES: Final = 256 * 1024


def results_directory(operation_id: str) -> str:
    """Return the directory of an operation's results, relative to the shared directory."""
    return f"results/{operation_id.removeprefix('op_')}"


def model_directory(operation_id: str, name: str) -> str:
    """Return the directory of a training's model, relative to the shared directory."""
    version = operation_id.split("_", 2)[2]
    return f"models/{name}_{version}"


def log_path(shared: Path, operation_id: str) -> Path:
    """Return the log of an operation without a result; all its attempts append to it."""
    return shared / "logs" / f"{operation_id}.log"


def published_log_path(shared: Path, operation_id: str) -> Path:
    """Return the log of a completed operation, which is kept with its results."""
    return shared / results_directory(operation_id) / LOG_NAME


def read_log_chunk(log: Path, offset: int) -> bytes:
    """Return at most 256 KiB of a log from ``offset`` on; empty at its end or without a log."""
    try:
        with log.open("rb") as file:
            file.seek(offset)
            return file.read(LOG_CHUNK_BYTES)
    except FileNotFoundError:
        return b""
