"""Remove files that no running program reads from an environment, while the image is built.

    python3 slim.py /opt/ktrdr

Uses only the standard library. `warm.py` then imports the programs' libraries, so that the build
fails if a file that is needed was removed.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# Patterns below site-packages. Debug symbols stay: stripping breaks libraries whose wheels were
# repaired ("ELF load command address/offset not page-aligned"; tried with numpy's OpenBLAS).
UNUSED: Final = (
    "pip",  # nothing is installed into the finished image
    "pip-*",
    "setuptools",
    "setuptools-*",
    "pkg_resources",
    "_distutils_hack",
    "distutils-precedence.pth",
    "**/tests",  # the libraries' own tests
    "**/include",  # headers and static libraries for compilers
    "**/*.h",
    "**/*.a",
    "**/*.pxd",
    "**/*.pyx",
    "**/*.pyi",
    "sklearn/datasets/data",  # sample data
    "sklearn/datasets/images",
    "matplotlib/mpl-data/sample_data",
    "matplotlib/mpl-data/images",  # icons of windows
    "matplotlib/backends/web_backend",
)


def remove_unused(environment: Path) -> int:
    """Remove the unused files; return their size in bytes."""
    (packages,) = environment.glob("lib/python3*/site-packages")
    removed = 0
    for path in list(_unused_paths(packages, environment)):
        if path.exists():
            removed += _size(path)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return removed


def _unused_paths(packages: Path, environment: Path) -> Iterator[Path]:
    for pattern in UNUSED:
        yield from packages.glob(pattern)
    yield from (environment / "bin").glob("pip*")


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else iter([path])
    return sum(file.lstat().st_size for file in files if not file.is_dir())


if __name__ == "__main__":
    sys.stdout.write(f"removed {remove_unused(Path(sys.argv[1])) / 1e6:.0f} MB\n")
