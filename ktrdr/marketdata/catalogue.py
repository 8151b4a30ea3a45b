"""The datasets of a shared directory: ``data/SYMBOL/TIMEFRAME.csv``.

Standard library only: the backend imports this, and must stay small.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import secrets
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final, Protocol, TextIO, cast

from ktrdr.contracts import NAME_PATTERN, Dataset
from ktrdr.errors import HostNotReady, UsageError
from ktrdr.marketdata.rows import read_bars
from ktrdr.marketdata.timeframe import bars_a_year

HEADER: Final = "timestamp,open,high,low,close,volume"
SUFFIX: Final = ".csv"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_CHUNK: Final = 1024 * 1024
_LONGEST_LINE: Final = 4096


class Readable(Protocol):
    """A binary file that can be read again from its start."""

    def read(self, size: int = ..., /) -> bytes:
        """At most ``size`` bytes."""
        ...

    def seek(self, offset: int, /) -> object:
        """Goes to a place."""
        ...


def dataset_path(root: Path, symbol: str, timeframe: str) -> Path:
    """Where a dataset is.

    Raises:
        UsageError: A name that could lead out of the directory, or that is no timeframe.
    """
    if not re.fullmatch(NAME_PATTERN, symbol):
        raise UsageError(
            f"{symbol!r} cannot be the name of a symbol",
            hint="Use letters, digits, dot, dash and underscore, 64 at most.",
        )
    bars_a_year(timeframe)
    return root / symbol / f"{timeframe}{SUFFIX}"


def list_datasets(root: Path) -> list[Dataset]:
    """All datasets below ``root``, by name; files that were put there by hand and are none, not."""
    found = []
    for path in sorted(root.glob(f"*/*{SUFFIX}")):
        # One being imported begins with a dot; one may vanish, or be no dataset at all.
        if not path.name.startswith("."):
            with contextlib.suppress(ValueError, IndexError, OSError):
                found.append(describe(root, path))
    return found


def describe(root: Path, path: Path) -> Dataset:
    """What a dataset's file holds."""
    with path.open("rb") as file:
        file.readline()
        first = file.readline()
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _LONGEST_LINE, 0))
        last = file.read().splitlines()[-1]
        file.seek(0)
        lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(_CHUNK), b""))
    return Dataset(
        symbol=path.parent.name,
        timeframe=path.name.removesuffix(SUFFIX),
        path=f"data/{path.relative_to(root)}",
        bars=lines - 1,
        first=_time(first),
        last=_time(last),
        size_bytes=size,
    )


def import_csv(source: Readable, root: Path, symbol: str, timeframe: str) -> Dataset:
    """Checks every row of a CSV file, plain or gzip, and puts it in place as a dataset.

    What was there before stays until the new file is complete.

    Raises:
        UsageError: The names or the file cannot be used; nothing has changed.
        HostNotReady: The shared directory cannot be written.
    """
    target = dataset_path(root, symbol, timeframe)
    temporary = target.with_name(f".{timeframe}.{secrets.token_hex(4)}{SUFFIX}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="ascii", newline="\n") as file:
            _write(source, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as exc:
        raise UsageError(
            f"the file is neither CSV text in UTF-8 nor gzip of it ({type(exc).__name__})",
            hint="Export it as plain CSV.",
        ) from exc
    except OSError as exc:
        raise HostNotReady(
            f"{target} cannot be written ({exc.strerror})",
            hint="Check the shared directory's space and owner (user 10001).",
        ) from exc
    finally:
        temporary.unlink(missing_ok=True)
    return describe(root, target)


def _write(source: Readable, file: TextIO) -> None:
    file.write(f"{HEADER}\n")
    for bar in read_bars(_text(source)):
        file.write(
            f"{bar.time:%Y-%m-%dT%H:%M:%SZ},{bar.open!r},{bar.high!r},{bar.low!r},{bar.close!r},"
            f"{bar.volume!r}\n"
        )


def _text(source: Readable) -> TextIO:
    magic = source.read(len(_GZIP_MAGIC))
    source.seek(0)
    plain = gzip.GzipFile(fileobj=cast("BinaryIO", source)) if magic == _GZIP_MAGIC else source
    return io.TextIOWrapper(cast("BinaryIO", plain), encoding="utf-8", newline="")


def _time(line: bytes) -> datetime:
    return datetime.fromisoformat(line.partition(b",")[0].decode())
