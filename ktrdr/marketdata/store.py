"""How a dataset lies on disk, and how a new one takes the place of an old one.

::

    data/SYMBOL/TIMEFRAME.csv               the bars: the truth
    data/SYMBOL/.TIMEFRAME.STAMP.json       where they came from, and their hash
    data/SYMBOL/.TIMEFRAME.STAMP.bars       the same bars in binary, for reading a part quickly
    data/SYMBOL/.TIMEFRAME.NAME.part        an import that is under way, or was killed
    data/.lock                              held while files take their places

STAMP is made of the CSV file's inode, size and time of change. Companions are put in place before
the CSV file, so that the one renaming of that file changes everything at once: whoever opens it
finds what belongs to it, and what was changed by hand has no companions.
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
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Final

from pydantic import ValidationError

from ktrdr.marketdata.rows import Bar
from ktrdr.schemas.data import Provenance

HEADER: Final = "timestamp,open,high,low,close,volume"
SUFFIX: Final = ".csv"
BINARY: Final = ".bars"
# Time in seconds since 1970, open, high, low, close, volume; little endian.
RECORD: Final = struct.Struct("<q5d")
_HISTORY: Final = ".json"
_PART: Final = ".part"
_LOCK: Final = ".lock"
_BLOCK: Final = 4096
_DAY: Final = 86_400
_FIRST_DAY: Final = date(1970, 1, 1).toordinal()


def stamp_of(status: os.stat_result) -> str:
    """What tells a CSV file from any other, and from itself after a change."""
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"


def companion(path: Path, stamp: str, suffix: str) -> Path:
    """Where what belongs to a CSV file is."""
    return path.with_name(f".{path.stem}.{stamp}{suffix}")


def history_of(path: Path, stamp: str) -> Provenance | None:
    """What was written down when a CSV file was imported, if it still is that file."""
    return _read_history(companion(path, stamp, _HISTORY))


def history_by_hash(path: Path, data_hash: str) -> tuple[str, Provenance] | None:
    """The same for a file that was moved or touched, but holds what was imported; its old stamp."""
    for each in sorted(path.parent.glob(f".{path.stem}.*{_HISTORY}")):
        found = _read_history(each)
        if found and found.report.dataset and found.report.dataset.data_hash == data_hash:
            stamp = each.name.removeprefix(f".{path.stem}.").removesuffix(_HISTORY)
            return stamp, found
    return None


def has_history(path: Path) -> bool:
    """Whether there ever was an import into this place."""
    return any(path.parent.glob(f".{path.stem}.*{_HISTORY}"))


def hash_of(file: BufferedReader) -> str:
    """The SHA-256 of a file."""
    return hashlib.file_digest(file, "sha256").hexdigest()


class BarWriter:
    """Writes bars as canonical CSV and in binary; both are hidden until they are put in place."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._parts: list[BinaryIO] = []
        self._csv, self._binary = self._part(target), self._part(target)
        self._digest = hashlib.sha256()
        self._lines: list[str] = []
        self._records: list[bytes] = []
        self._date = (0, "")
        self.bars = 0
        self.first = self.last = 0
        self._put(f"{HEADER}\n".encode(), b"")

    def write(self, bar: Bar) -> None:
        """Adds a bar."""
        _, time, first, high, low, last, volume = bar
        day, second = divmod(time, _DAY)
        if not self.bars:
            self.first = time
        if day != self._date[0] or not self.bars:
            self._date = (day, _date(day))
        self._lines.append(
            f"{self._date[1]}T{_clock(second)}Z,{first!r},{high!r},{low!r},{last!r},{volume!r}\n"
        )
        self._records.append(RECORD.pack(time, first, high, low, last, volume))
        self.bars += 1
        self.last = time
        if len(self._lines) >= _BLOCK:
            self._flush()

    def finish(self) -> tuple[str, os.stat_result]:
        """Gives the content's hash and the file's status, when all of it has reached the disk."""
        self._flush()
        for file in (self._binary, self._csv):
            file.flush()
            os.fsync(file.fileno())
        return self._digest.hexdigest(), os.fstat(self._csv.fileno())

    def publish(self, history: Provenance) -> None:
        """Puts all in place of what was there."""
        path, stamp = self._target, stamp_of(os.fstat(self._csv.fileno()))
        notes = self._part(path)
        notes.write(history.model_dump_json(indent=2).encode())
        notes.flush()
        os.fsync(notes.fileno())
        with locked(path.parent.parent):
            Path(notes.name).rename(companion(path, stamp, _HISTORY))
            Path(self._binary.name).rename(companion(path, stamp, BINARY))
            Path(self._csv.name).rename(path)
            for old in _companions(path):
                if f".{stamp}." not in old.name:
                    old.unlink(missing_ok=True)
        _sync(path.parent)

    def close(self) -> None:
        """Removes what was not put in place."""
        for file in self._parts:
            # Still ours: whoever sweeps up leaves alone what somebody has open.
            Path(file.name).unlink(missing_ok=True)
            # What could not be written before cannot be now.
            with contextlib.suppress(OSError):
                file.close()
        with contextlib.suppress(OSError), locked(self._target.parent.parent):
            # Empty if this would have been the symbol's first dataset.
            self._target.parent.rmdir()

    def _part(self, target: Path) -> BinaryIO:
        self._parts.append(_part(target))
        return self._parts[-1]

    def _flush(self) -> None:
        self._put("".join(self._lines).encode("ascii"), b"".join(self._records))
        self._lines.clear()
        self._records.clear()

    def _put(self, text: bytes, records: bytes) -> None:
        self._digest.update(text)
        self._csv.write(text)
        self._binary.write(records)


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keeps everybody else from putting files in place or removing them meanwhile."""
    with (root / _LOCK).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove_files(path: Path) -> None:
    """Removes a dataset with all that belongs to it; whoever reads it, reads on."""
    with locked(path.parent.parent):
        path.unlink()
        for each in _companions(path):
            each.unlink(missing_ok=True)
        # Other timeframes, or an import that is under way, may be there.
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def sweep(root: Path) -> list[Path]:
    """Removes what killed imports have left behind; gives the paths."""
    if not root.is_dir():
        return []
    removed = []
    with locked(root):
        for path in sorted(root.glob(f"*/.*{_PART}")):
            with contextlib.suppress(OSError), path.open("rb") as file:
                # Whoever is still writing holds a lock that ends with its process.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                removed.append(path)
    return removed


def _companions(path: Path) -> Iterator[Path]:
    for suffix in (_HISTORY, BINARY):
        yield from path.parent.glob(f".{path.stem}.*{suffix}")


def _part(target: Path) -> BinaryIO:
    """A new hidden file beside ``target``, locked as long as it is open."""
    with locked(target.parent.parent):
        target.parent.mkdir(exist_ok=True)
        file = target.with_name(f".{target.stem}.{secrets.token_hex(8)}{_PART}").open("xb")
        fcntl.flock(file, fcntl.LOCK_EX)
        return file


def _read_history(path: Path) -> Provenance | None:
    try:
        return Provenance.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


@lru_cache(maxsize=1440)
def _clock(second: int) -> str:
    return f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"


def _date(day: int) -> str:
    return date.fromordinal(day + _FIRST_DAY).isoformat()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
