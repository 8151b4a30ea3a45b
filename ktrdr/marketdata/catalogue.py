"""Catalogue of the datasets in a shared directory.

Standard library only: the backend imports this module and must stay small.
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

from ktrdr.errors import HostNotReady, InvalidParameters, NotFound, UsageError
from ktrdr.marketdata.store import (
    SUFFIX,
    file_stamp,
    find_provenance,
    has_provenance,
    read_provenance,
    remove_dataset_files,
)
from ktrdr.marketdata.timeframe import parse_timeframe
from ktrdr.schemas import NAME_PATTERN
from ktrdr.schemas.data import Dataset, DatasetDetails

_CHUNK: Final = 1024 * 1024
_MAX_LINE: Final = 4096


class _FileContent(NamedTuple):
    """Facts about a file that was not imported."""

    bars: int
    first: datetime
    last: datetime
    data_hash: str


def dataset_path(root: Path, symbol: str, timeframe: str) -> Path:
    """Return the path of a dataset's CSV file.

    Raises:
        UsageError: The symbol could lead out of the directory, or the timeframe is invalid.
    """
    if not re.fullmatch(NAME_PATTERN, symbol):
        raise UsageError(
            f"{symbol!r} cannot be the name of a symbol",
            hint="Use at most 64 letters, digits, dots, dashes and underscores.",
        )
    parse_timeframe(timeframe)
    return root / symbol / f"{timeframe}{SUFFIX}"


def relative_path(path: Path) -> str:
    """Return the path of a dataset, relative to the shared directory."""
    return f"data/{path.parent.name}/{path.name}"


def list_datasets(root: Path, symbol: str | None = None) -> list[Dataset]:
    """Return all datasets, or those of a symbol, by name.

    Files that were added by hand and are not datasets are omitted.
    """
    return [details.dataset for details in _list_details(root, symbol)]


def describe_datasets(
    root: Path, symbol: str, timeframe: str | None = None
) -> list[DatasetDetails]:
    """Return details of a symbol's datasets, or of one of them.

    Raises:
        NotFound: There is no such dataset.
        UsageError: The names are invalid.
    """
    dataset_path(root, symbol, timeframe or "1d")
    datasets = [
        details
        for details in _list_details(root, symbol)
        if timeframe is None or details.dataset.timeframe == timeframe
    ]
    if not datasets:
        raise _not_found(root, symbol, timeframe)
    return datasets


def delete_dataset(root: Path, symbol: str, timeframe: str) -> None:
    """Delete a dataset. Operations that have opened it can continue to read it.

    Raises:
        NotFound: There is no such dataset.
        HostNotReady: The shared directory cannot be written.
    """
    path = dataset_path(root, symbol, timeframe)
    if not path.is_file():
        raise _not_found(root, symbol, timeframe)
    try:
        remove_dataset_files(path)
    except FileNotFoundError:
        raise _not_found(root, symbol, timeframe) from None
    except OSError as exc:
        raise HostNotReady(
            f"{path} cannot be removed ({exc.strerror})",
            hint="Check the shared directory's owner (user 10001).",
        ) from exc


def require_dataset(root: Path, symbol: str, timeframe: str) -> None:
    """Refuse names of no dataset, unless there is none at all: the share may be away.

    Raises:
        InvalidParameters: There is no such dataset.
    """
    if not dataset_path(root, symbol, timeframe).is_file() and _list_files(root):
        hint = suggest_datasets(root, symbol)
        raise InvalidParameters(f"there is no data for {symbol} {timeframe}", hint=hint)


def suggest_datasets(root: Path, symbol: str) -> str:
    """Return a hint with the existing datasets, for a request of a missing one."""
    names = [f"{path.parent.name} {path.stem}" for path in _list_files(root)]
    if not names:
        return "Import data with `ktrdr data import`."
    symbols = sorted({name.split()[0] for name in names})
    if symbol in symbols:
        return f"Available: {', '.join(name for name in names if name.split()[0] == symbol)}."
    by_lower = {name.lower(): name for name in symbols}
    nearest = difflib.get_close_matches(symbol.lower(), by_lower, n=1)
    question = f"Did you mean {by_lower[nearest[0]]}? " if nearest else ""
    more = " and more; see `ktrdr data list`" if len(names) > 10 else ""
    return f"{question}Available: {', '.join(names[:10])}{more}."


def _not_found(root: Path, symbol: str, timeframe: str | None) -> NotFound:
    name = f"{symbol} {timeframe}" if timeframe else symbol
    return NotFound(f"there is no data for {name}", hint=suggest_datasets(root, symbol))


def _list_files(root: Path, symbol: str | None = None) -> Iterable[Path]:
    paths = (root / symbol).glob(f"*{SUFFIX}") if symbol else root.glob(f"*/*{SUFFIX}")
    return [path for path in sorted(paths) if not path.name.startswith(".") and path.is_file()]


def _list_details(root: Path, symbol: str | None) -> list[DatasetDetails]:
    datasets = []
    for path in _list_files(root, symbol):
        # A file may be removed meanwhile, or be no dataset.
        with contextlib.suppress(OSError):
            details = _describe_file(path)
            if details is not None:
                datasets.append(details)
    return datasets


def _describe_file(path: Path) -> DatasetDetails | None:
    """Return details of a file, or None if it is not a dataset."""
    status = path.stat()
    stamp = file_stamp(status)
    provenance = read_provenance(path, stamp)
    if provenance is None:
        content = _read_content(path, stamp)
        if content is None:
            return None
        copied = find_provenance(path, content.data_hash)
        if copied is None:
            dataset = Dataset(
                symbol=path.parent.name,
                timeframe=path.stem,
                path=relative_path(path),
                bars=content.bars,
                first=content.first,
                last=content.last,
                size_bytes=status.st_size,
                data_hash=content.data_hash,
                state="changed" if has_provenance(path) else "by hand",
            )
            return DatasetDetails(dataset=dataset, provenance=None)
        provenance = copied[1]
    imported = provenance.report.dataset
    if imported is None:
        return None
    # The directory may have been renamed since the import.
    names = {"symbol": path.parent.name, "timeframe": path.stem, "path": relative_path(path)}
    return DatasetDetails(dataset=imported.model_copy(update=names), provenance=provenance)


@lru_cache(maxsize=256)
def _read_content(path: Path, stamp: str) -> _FileContent | None:  # noqa: ARG001  # part of the key
    """Read a whole file, once for each stamp."""
    digest = hashlib.sha256()
    lines = 0
    with path.open("rb") as file:
        file.readline(_MAX_LINE)
        first = file.readline(_MAX_LINE)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _MAX_LINE, 0))
        end = file.read()
        file.seek(0)
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            digest.update(chunk)
            lines += chunk.count(b"\n")
    try:
        return _FileContent(
            bars=lines - end.endswith(b"\n"),
            first=_parse_time(first),
            last=_parse_time(end.splitlines()[-1]),
            data_hash=digest.hexdigest(),
        )
    except (ValueError, IndexError):
        return None


def _parse_time(line: bytes) -> datetime:
    time = datetime.fromisoformat(line.partition(b",")[0].decode())
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time
