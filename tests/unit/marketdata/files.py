"""CSV files of bars for tests."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

from ktrdr.marketdata.importing import import_csv
from ktrdr.schemas.data import ImportReport, ImportRequest, Repair

HEADER = "date,open,high,low,close,volume"
NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def import_text(
    content: str | bytes, root: Path, symbol: str = "SPX", timeframe: str = "1d", **options: object
) -> ImportReport:
    """Import the content of a file."""
    raw = content.encode() if isinstance(content, str) else content
    request = ImportRequest.model_validate(options)
    return import_csv(io.BytesIO(raw), root, symbol, timeframe, request, imported_by="ada", now=NOW)


def csv_table(*rows: str, header: str = HEADER) -> str:
    """Return a file with these rows; the first is line 2."""
    return "\n".join((header, *rows, ""))


def stored_rows(root: Path, symbol: str = "SPX", timeframe: str = "1d") -> list[str]:
    """Return the rows of a dataset's file."""
    return (root / symbol / f"{timeframe}.csv").read_text().splitlines()[1:]


def all_repairs(*except_for: Repair) -> list[str]:
    """Return all repairs except the given ones."""
    return [repair.value for repair in Repair if repair not in except_for]
