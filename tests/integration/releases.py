"""Previous release, unpacked from the repository."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Last commit of the previous release.
PREVIOUS_COMMIT = "104b7c2861f85f344187ae5aad2fce012771a567"


def _git(*words: str) -> bytes:
    # Git refuses to read a checkout of another user unless it is declared safe.
    safe = f"safe.directory={ROOT}"
    return subprocess.run(
        ["git", "-C", str(ROOT), "-c", safe, *words], check=True, capture_output=True
    ).stdout


def unpack_previous_release(directory: Path) -> Path:
    """Unpack the package of the previous release, and return the directory for PYTHONPATH."""
    return unpack_release(directory, PREVIOUS_COMMIT)


def unpack_release(directory: Path, commit: str) -> Path:
    """Unpack the package of a commit, and return the directory for PYTHONPATH."""
    archive = directory / "before.tar"
    archive.write_bytes(_git("archive", "--format=tar", commit, "ktrdr"))
    with tarfile.open(archive) as tar:
        tar.extractall(directory, filter="data")
    return directory
