"""The previous release, as it was committed, to run beside this one."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Last commit before the work on this release began.
BEFORE = "104b7c2861f85f344187ae5aad2fce012771a567"


def _git(*words: str) -> bytes:
    # Git refuses to read the checkout of another user without this setting.
    safe = f"safe.directory={ROOT}"
    return subprocess.run(
        ["git", "-C", str(ROOT), "-c", safe, *words], check=True, capture_output=True
    ).stdout


def release_before(directory: Path) -> Path:
    """Unpack the package of the previous release; return the directory for PYTHONPATH."""
    archive = directory / "before.tar"
    archive.write_bytes(_git("archive", "--format=tar", BEFORE, "ktrdr"))
    with tarfile.open(archive) as found:
        found.extractall(directory, filter="data")
    return directory
