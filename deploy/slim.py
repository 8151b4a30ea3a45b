"""Takes out of an environment what no running program reads, while the image is built.

    python3 slim.py /opt/ktrdr

Needs nothing but the standard library. `warm.py` then imports what the programs import, so the
build fails if something was taken that is needed after all.
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
    "pip",  # the image installs nothing any more
    "pip-*",
    "setuptools",
    "setuptools-*",
    "pkg_resources",
    "_distutils_hack",
    "distutils-precedence.pth",
    "**/tests",  # the libraries' own tests
    "**/include",  # for compiling against the libraries
    "**/*.h",
    "**/*.a",
    "**/*.pxd",
    "**/*.pyx",
    "**/*.pyi",
    "sklearn/datasets/data",  # samples
    "sklearn/datasets/images",
    "matplotlib/mpl-data/sample_data",
    "matplotlib/mpl-data/images",  # icons of its windows
    "matplotlib/backends/web_backend",
)


def slim(environment: Path) -> int:
    """Removes what is unused and returns how many bytes that was."""
    (packages,) = environment.glob("lib/python3*/site-packages")
    removed = 0
    for path in list(_unused(packages, environment)):
        if path.exists():
            removed += _size(path)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return removed


def _unused(packages: Path, environment: Path) -> Iterator[Path]:
    for pattern in UNUSED:
        yield from packages.glob(pattern)
    yield from (environment / "bin").glob("pip*")


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else iter([path])
    return sum(file.lstat().st_size for file in files if not file.is_dir())


if __name__ == "__main__":
    sys.stdout.write(f"removed {slim(Path(sys.argv[1])) / 1e6:.0f} MB\n")
