"""File systems that are really full or read-only, and directories that are really mounted."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FILLER = "filler"


@contextmanager
def small_file_system(where: Path, megabytes: int) -> Iterator[Path]:
    """Mount a file system in memory during the block; this needs root."""
    options = f"size={megabytes}m,mode=0777"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(where)], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


@contextmanager
def mounted(source: Path, where: Path, *, options: str = "") -> Iterator[None]:
    """Mount a directory at another, or at itself, during the block; this needs root."""
    subprocess.run(["mount", "--bind", str(source), str(where)], check=True)
    try:
        if options:
            command = ["mount", "-o", f"remount,bind,{options}", str(where)]
            subprocess.run(command, check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


def fill(where: Path) -> None:
    """Fill the file system completely."""
    with (where / _FILLER).open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(64 * 1024))
        except OSError as exc:
            if exc.errno != errno.ENOSPC:
                raise


def free_space(where: Path) -> None:
    """Free the space that `fill` used."""
    (where / _FILLER).unlink()


def remount(where: Path, mode: str) -> None:
    """Remount a file system as ``ro`` or ``rw``."""
    subprocess.run(["mount", "-o", f"remount,{mode}", str(where)], check=True)
