"""Files of a dataset, and their atomic replacement.

::

    data/SYMBOL/TIMEFRAME.csv               the bars, which are authoritative
    data/SYMBOL/.TIMEFRAME.STAMP.json       their provenance and hash
    data/SYMBOL/.TIMEFRAME.STAMP.bars       the same bars in binary, for fast reads of a range
    data/SYMBOL/.TIMEFRAME.NAME.part        an import that is running or was killed
    data/.lock                              held while files are renamed or removed

STAMP consists of the CSV file's inode, size and time of change. Companion files are renamed before
the CSV file, so that renaming the CSV file replaces everything atomically: a reader always finds
the companions of the file it opened, and a file that was changed by hand has none.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Final

from pydantic import ValidationError

from ktrdr.marketdata.csv_rows import Bar
from ktrdr.schemas.data import Provenance

HEADER: Final = "timestamp,open,high,low,close,volume"
SUFFIX: Final = ".csv"
BINARY: Final = ".bars"
# Time in seconds since 1970, open, high, low, close, volume; little endian.
RECORD: Final = struct.Struct("<q5d")
_PROVENANCE: Final = ".json"
_PART: Final = ".part"
_LOCK: Final = ".lock"
_BLOCK: Final = 4096
_DAY: Final = 86_400
_FIRST_DAY: Final = date(1970, 1, 1).toordinal()


def file_stamp(status: os.stat_result) -> str:
    """Return a stamp that identifies a CSV file and changes with its content."""
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"


def companion_path(path: Path, stamp: str, suffix: str) -> Path:
    """Return the path of a CSV file's companion."""
    return path.with_name(f".{path.stem}.{stamp}{suffix}")


def read_provenance(path: Path, stamp: str) -> Provenance | None:
    """Return the provenance of a CSV file, or None if the file was not imported or has changed."""
    return _parse_provenance(companion_path(path, stamp, _PROVENANCE))


def find_provenance(path: Path, data_hash: str) -> tuple[str, Provenance] | None:
    """Return stamp and provenance of an imported file that was copied or touched, by its hash."""
    for companion in sorted(path.parent.glob(f".{path.stem}.*{_PROVENANCE}")):
        provenance = _parse_provenance(companion)
        dataset = provenance.report.dataset if provenance else None
        if provenance and dataset and dataset.data_hash == data_hash:
            stamp = companion.name.removeprefix(f".{path.stem}.").removesuffix(_PROVENANCE)
            return stamp, provenance
    return None


def has_provenance(path: Path) -> bool:
    """Return whether this dataset was ever imported."""
    return any(path.parent.glob(f".{path.stem}.*{_PROVENANCE}"))


class BarWriter:
    """Writer of bars in canonical CSV and in binary, into hidden files until they are published."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._parts: list[BinaryIO] = []
        self._csv, self._binary = self._open_part(), self._open_part()
        self._digest = hashlib.sha256()
        self._lines: list[str] = []
        self._records: list[bytes] = []
        self._date = (0, "")
        self.bars = 0
        self.first = self.last = 0
        self._write_content(f"{HEADER}\n".encode(), b"")

    def write(self, bar: Bar) -> None:
        """Write a bar."""
        _, time, first, high, low, last, volume = bar
        day, second = divmod(time, _DAY)
        if not self.bars:
            self.first = time
        if day != self._date[0] or not self.bars:
            self._date = (day, date.fromordinal(day + _FIRST_DAY).isoformat())
        self._lines.append(
            f"{self._date[1]}T{_format_clock(second)}Z,{first!r},{high!r},{low!r},{last!r},{volume!r}\n"
        )
        self._records.append(RECORD.pack(time, first, high, low, last, volume))
        self.bars += 1
        self.last = time
        if len(self._lines) >= _BLOCK:
            self._flush()

    def finish(self) -> tuple[str, os.stat_result]:
        """Flush all bars to the disk, and return the hash and the status of the CSV file."""
        self._flush()
        for file in (self._binary, self._csv):
            file.flush()
            os.fsync(file.fileno())
        return self._digest.hexdigest(), os.fstat(self._csv.fileno())

    def publish(self, provenance: Provenance) -> None:
        """Replace the earlier files of the dataset."""
        path, stamp = self._target, file_stamp(os.fstat(self._csv.fileno()))
        document = self._open_part()
        document.write(provenance.model_dump_json(indent=2).encode())
        document.flush()
        os.fsync(document.fileno())
        with locked(path.parent.parent):
            Path(document.name).rename(companion_path(path, stamp, _PROVENANCE))
            Path(self._binary.name).rename(companion_path(path, stamp, BINARY))
            Path(self._csv.name).rename(path)
            for companion in _list_companions(path):
                if f".{stamp}." not in companion.name:
                    companion.unlink(missing_ok=True)
        _sync_directory(path.parent)

    def close(self) -> None:
        """Remove files that were not published."""
        for file in self._parts:
            # Unlink before closing: open files are locked against `remove_import_orphans`.
            Path(file.name).unlink(missing_ok=True)
            # After a failed write, closing fails as well.
            with contextlib.suppress(OSError):
                file.close()
        with contextlib.suppress(OSError), locked(self._target.parent.parent):
            # Empty if this was to be the symbol's first dataset.
            self._target.parent.rmdir()

    def _open_part(self) -> BinaryIO:
        """Open a new hidden file beside the target, locked while it is open."""
        target = self._target
        with locked(target.parent.parent):
            target.parent.mkdir(exist_ok=True)
            file = target.with_name(f".{target.stem}.{secrets.token_hex(8)}{_PART}").open("xb")
            fcntl.flock(file, fcntl.LOCK_EX)
        self._parts.append(file)
        return file

    def _flush(self) -> None:
        self._write_content("".join(self._lines).encode("ascii"), b"".join(self._records))
        self._lines.clear()
        self._records.clear()

    def _write_content(self, text: bytes, records: bytes) -> None:
        self._digest.update(text)
        self._csv.write(text)
        self._binary.write(records)


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the lock under which files are renamed and removed."""
    with (root / _LOCK).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove_dataset_files(path: Path) -> None:
    """Remove a dataset with its companions. Readers that have opened it can continue."""
    with locked(path.parent.parent):
        path.unlink()
        for companion in _list_companions(path):
            companion.unlink(missing_ok=True)
        # The directory may contain other timeframes, or a running import.
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def remove_import_orphans(root: Path) -> list[Path]:
    """Remove the files of killed imports, and return their paths."""
    if not root.is_dir():
        return []
    removed = []
    with locked(root):
        for path in sorted(root.glob(f"*/.*{_PART}")):
            with contextlib.suppress(OSError), path.open("rb") as file:
                # A running import holds a lock, which ends with its process.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                removed.append(path)
    return removed


def _list_companions(path: Path) -> Iterator[Path]:
    for suffix in (_PROVENANCE, BINARY):
        yield from path.parent.glob(f".{path.stem}.*{suffix}")


def _parse_provenance(path: Path) -> Provenance | None:
    try:
        return Provenance.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


@lru_cache(maxsize=1440)
def _format_clock(second: int) -> str:
    return f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
