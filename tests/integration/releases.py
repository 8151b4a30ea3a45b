"""The release before this one, as it was committed, to be run beside this one."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The last commit before the work of this release began.
BEFORE = "104b7c2861f85f344187ae5aad2fce012771a567"


def _git(*words: str) -> bytes:
    # Where the checkout belongs to somebody else, git refuses to look at it without being told.
    safe = f"safe.directory={ROOT}"
    return subprocess.run(
        ["git", "-C", str(ROOT), "-c", safe, *words], check=True, capture_output=True
    ).stdout


def release_before(directory: Path) -> Path:
    """Unpacks the package of the release before this one; gives what PYTHONPATH is to be."""
    archive = directory / "before.tar"
    archive.write_bytes(_git("archive", "--format=tar", BEFORE, "ktrdr"))
    with tarfile.open(archive) as found:
        found.extractall(directory, filter="data")
    return directory
