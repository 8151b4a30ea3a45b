"""The datasets of a shared directory: what there is, and what is known of it.

Standard library only: the backend imports this, and must stay small.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from ktrdr.errors import HostNotReady, NotFound, UsageError
from ktrdr.marketdata.store import (
    SUFFIX,
    has_history,
    history_by_hash,
    history_of,
    remove_files,
    stamp_of,
)
from ktrdr.marketdata.timeframe import parse_timeframe
from ktrdr.schemas import NAME_PATTERN
from ktrdr.schemas.data import Dataset, DatasetDetails, Provenance

_CHUNK: Final = 1024 * 1024
_LONGEST_LINE: Final = 4096


class _Content(NamedTuple):
    """What reading all of a file that nobody imported tells."""

    bars: int
    first: datetime
    last: datetime
    data_hash: str


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
    parse_timeframe(timeframe)
    return root / symbol / f"{timeframe}{SUFFIX}"


def relative_path(path: Path) -> str:
    """A dataset's place below the shared directory."""
    return f"data/{path.parent.name}/{path.name}"


def list_datasets(root: Path, symbol: str | None = None) -> list[Dataset]:
    """All datasets below ``root``, or those of a symbol, by name.

    A file that was put there by hand and is none is left out.
    """
    return [details.dataset for details in _all_details(root, symbol)]


def describe(root: Path, symbol: str, timeframe: str | None = None) -> list[DatasetDetails]:
    """What is known of a symbol's datasets, or of one of them.

    Raises:
        NotFound: There is none.
        UsageError: The names cannot be those of a dataset.
    """
    dataset_path(root, symbol, timeframe or "1d")
    found = [
        details
        for details in _all_details(root, symbol)
        if timeframe is None or details.dataset.timeframe == timeframe
    ]
    if not found:
        raise _unknown(root, symbol, timeframe)
    return found


def remove(root: Path, symbol: str, timeframe: str) -> None:
    """Removes a dataset; work that has begun with it reads on.

    Raises:
        NotFound: There is none.
        HostNotReady: The shared directory cannot be written.
    """
    path = dataset_path(root, symbol, timeframe)
    if not path.is_file():
        raise _unknown(root, symbol, timeframe)
    try:
        remove_files(path)
    except FileNotFoundError:
        raise _unknown(root, symbol, timeframe) from None
    except OSError as exc:
        raise HostNotReady(
            f"{path} cannot be removed ({exc.strerror})",
            hint="Check the shared directory's owner (user 10001).",
        ) from exc


def suggest(root: Path, symbol: str) -> str:
    """What to say to somebody who asked for a dataset that is not there."""
    known = _names(root)
    if not known:
        return "Bring some in with `ktrdr data import`."
    symbols = sorted({name.split()[0] for name in known})
    if symbol in symbols:
        return f"There is {', '.join(name for name in known if name.split()[0] == symbol)}."
    by_lower = {each.lower(): each for each in symbols}
    near = difflib.get_close_matches(symbol.lower(), by_lower, n=1)
    question = f"Did you mean {by_lower[near[0]]}? " if near else ""
    more = " and more, see `ktrdr data list`" if len(known) > 10 else ""
    return f"{question}There is {', '.join(known[:10])}{more}."


def _unknown(root: Path, symbol: str, timeframe: str | None) -> NotFound:
    name = f"{symbol} {timeframe}" if timeframe else symbol
    return NotFound(f"there is no data for {name}", hint=suggest(root, symbol))


def _names(root: Path) -> list[str]:
    """The names of all datasets, without a look into any."""
    return [f"{path.parent.name} {path.stem}" for path in _files(root)]


def _files(root: Path, symbol: str | None = None) -> Iterable[Path]:
    found = sorted((root / symbol).glob(f"*{SUFFIX}") if symbol else root.glob(f"*/*{SUFFIX}"))
    return [path for path in found if not path.name.startswith(".") and path.is_file()]


def _all_details(root: Path, symbol: str | None) -> list[DatasetDetails]:
    found = []
    for path in _files(root, symbol):
        # One may vanish while we look, or be no dataset at all.
        with contextlib.suppress(OSError):
            details = _details(path)
            if details is not None:
                found.append(details)
    return found


def _details(path: Path) -> DatasetDetails | None:
    """What is known of a file; None if it is no dataset."""
    status = path.stat()
    stamp = stamp_of(status)
    history = history_of(path, stamp)
    if history is None:
        content = _content(path, stamp)
        if content is None:
            return None
        older = history_by_hash(path, content.data_hash)
        if older is None:
            return DatasetDetails(dataset=_by_hand(path, status, content), provenance=None)
        history = older[1]
    return _as_imported(path, history)


def _as_imported(path: Path, history: Provenance) -> DatasetDetails | None:
    dataset = history.report.dataset
    if dataset is None:
        return None
    # Directories may have been renamed since.
    placed = {"symbol": path.parent.name, "timeframe": path.stem, "path": relative_path(path)}
    return DatasetDetails(dataset=dataset.model_copy(update=placed), provenance=history)


def _by_hand(path: Path, status: os.stat_result, content: _Content) -> Dataset:
    return Dataset(
        symbol=path.parent.name,
        timeframe=path.stem,
        path=relative_path(path),
        bars=content.bars,
        first=content.first,
        last=content.last,
        size_bytes=status.st_size,
        data_hash=content.data_hash,
        state="changed" if has_history(path) else "by hand",
    )


@lru_cache(maxsize=256)
def _content(path: Path, stamp: str) -> _Content | None:  # noqa: ARG001  # part of the key
    """Reads a whole file, once for each of its states."""
    digest = hashlib.sha256()
    lines = 0
    with path.open("rb") as file:
        file.readline(_LONGEST_LINE)
        first = file.readline(_LONGEST_LINE)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _LONGEST_LINE, 0))
        end = file.read()
        file.seek(0)
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            digest.update(chunk)
            lines += chunk.count(b"\n")
    try:
        return _Content(
            bars=lines - end.endswith(b"\n"),
            first=_time(first),
            last=_time(end.splitlines()[-1]),
            data_hash=digest.hexdigest(),
        )
    except (ValueError, IndexError):
        return None


def _time(line: bytes) -> datetime:
    time = datetime.fromisoformat(line.partition(b",")[0].decode())
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time
