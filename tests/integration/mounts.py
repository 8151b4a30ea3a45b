"""A shared directory that is really full, or really read-only."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FILLER = "filler"


@contextmanager
def small_file_system(where: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own at ``where``, in memory, of so many megabytes; needs root."""
    options = f"size={megabytes}m,mode=0777"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(where)], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


def fill(where: Path) -> None:
    """Uses up all the room there is."""
    with (where / _FILLER).open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(64 * 1024))
        except OSError as exc:
            if exc.errno != errno.ENOSPC:
                raise


def make_room(where: Path) -> None:
    """Gives it back."""
    (where / _FILLER).unlink()


def remount(where: Path, mode: str) -> None:
    """Makes it ``ro`` or ``rw``."""
    subprocess.run(["mount", "-o", f"remount,{mode}", str(where)], check=True)
