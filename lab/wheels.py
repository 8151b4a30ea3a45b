"""Packages of the lock file whose files the lab uses without installing them."""

from __future__ import annotations

import gzip
import sys
import zipfile
from functools import cache
from pathlib import Path
from typing import Final

from lab.config import ROOT, STATE
from lab.shell import run

DATA: Final = STATE / "data"
_DIRECTORY: Final = STATE / "wheels"
_LOCK: Final = ROOT / "requirements" / "lab.txt"
_SERIES: Final = {
    "SP500": "arch/data/sp500/sp500.csv.gz",
    "NASDAQ": "arch/data/nasdaq/nasdaq.csv.gz",
}


@cache
def download_wheels(*names: str) -> tuple[Path, ...]:
    """Return the wheels of packages for Python 3.13; download them once, with verified hashes.

    Args:
        names: Names of packages, with underscores as in names of wheels.
    """
    lock = _DIRECTORY / "lock"
    if not lock.exists() or lock.read_text() != _LOCK.read_text():
        run(
            *(sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check"),
            *("--no-deps", "--only-binary=:all:", "--python-version=3.13", "--require-hashes"),
            *("--dest", str(_DIRECTORY), "--requirement", str(_LOCK)),
        )
        lock.write_text(_LOCK.read_text())
    return tuple(max(_DIRECTORY.glob(f"{name}-*.whl")) for name in names)


def ensure_market_data() -> None:
    """Extract the daily bars of two indices from the package `arch`."""
    if all((DATA / f"{symbol}.csv").exists() for symbol in _SERIES):
        return
    DATA.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(download_wheels("arch")[0]) as archive:
        for symbol, member in _SERIES.items():
            (DATA / f"{symbol}.csv").write_bytes(gzip.decompress(archive.read(member)))
