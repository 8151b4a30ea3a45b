"""Files of bars for tests, as vendors would write them."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

from ktrdr.marketdata.importing import import_csv
from ktrdr.schemas.data import ImportReport, ImportRequest, Repair

HEADER = "date,open,high,low,close,volume"
NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def bring_in(
    content: str | bytes, root: Path, symbol: str = "SPX", timeframe: str = "1d", **options: object
) -> ImportReport:
    """Imports a file's content."""
    raw = content.encode() if isinstance(content, str) else content
    request = ImportRequest.model_validate(options)
    return import_csv(io.BytesIO(raw), root, symbol, timeframe, request, by="ada", now=NOW)


def table(*rows: str, header: str = HEADER) -> str:
    """A file with these rows; the first of them is line 2."""
    return "\n".join((header, *rows, ""))


def stored(root: Path, symbol: str = "SPX", timeframe: str = "1d") -> list[str]:
    """The rows of a dataset's file."""
    return (root / symbol / f"{timeframe}.csv").read_text().splitlines()[1:]


def all_repairs(*but: Repair) -> list[str]:
    """Everything that can be asked for, except these."""
    return [each.value for each in Repair if each not in but]
