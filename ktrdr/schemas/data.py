"""Market data: datasets and imports.

Importable without FastAPI, database or domain code, as `ktrdr.schemas` is. Times are aware and in
UTC.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field

from ktrdr.schemas.base import RequestModel, ResponseModel

# A file's name that a terminal can show: no control characters.
SourceName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,255}$")]


class Delimiter(StrEnum):
    """Separator of the fields of a line."""

    COMMA = "comma"
    SEMICOLON = "semicolon"
    TAB = "tab"
    PIPE = "pipe"


class DecimalSeparator(StrEnum):
    """Separator of a number's integer part and fraction."""

    POINT = "point"
    COMMA = "comma"


class Repair(StrEnum):
    """Repair that an import makes only on request."""

    SORT = "sort"
    DROP_DUPLICATES = "drop-duplicates"
    WIDEN = "widen"
    DROP_BAD = "drop-bad"


class GapPolicy(StrEnum):
    """Handling of a file with gaps."""

    REPORT = "report"
    REFUSE = "refuse"


class RowFaultKind(StrEnum):
    """Kind of fault of a row."""

    UNREADABLE = "unreadable"
    NOT_FINITE = "not-finite"
    NOT_POSITIVE = "not-positive"
    NEGATIVE_VOLUME = "negative-volume"
    CROSSED = "crossed"
    NOT_ENCLOSED = "not-enclosed"
    OUT_OF_ORDER = "out-of-order"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"

    @property
    def description(self) -> str:
        """Fault in words, such as ``a negative volume``."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS: Final = {
    RowFaultKind.UNREADABLE: "an unreadable value",
    RowFaultKind.NOT_FINITE: "a value that is not a finite number",
    RowFaultKind.NOT_POSITIVE: "a price that is not positive",
    RowFaultKind.NEGATIVE_VOLUME: "a negative volume",
    RowFaultKind.CROSSED: "a high below the low",
    RowFaultKind.NOT_ENCLOSED: "a high and a low that do not enclose open and close",
    RowFaultKind.OUT_OF_ORDER: "a time out of order",
    RowFaultKind.DUPLICATE: "a duplicate bar",
    RowFaultKind.CONFLICT: "a duplicate time with different values",
}


class ImportOptions(RequestModel):
    """Options of an import: the file's format, and the repairs to make."""

    delimiter: Delimiter | None = Field(default=None, description="Detected if omitted.")
    decimal: DecimalSeparator = DecimalSeparator.POINT
    date_format: str | None = Field(
        default=None,
        max_length=64,
        description="iso, ymd, mdy, dmy, epoch, epoch-ms, or a strptime format with %; detected"
        " if omitted.",
    )
    time_zone: str = Field(
        default="UTC", max_length=64, description="IANA zone of times without a zone."
    )
    repair: frozenset[Repair] = Field(default=frozenset(), description="Repairs to make.")
    gaps: GapPolicy = GapPolicy.REPORT


class ImportRequest(ImportOptions):
    """Query parameters of an import."""

    dry_run: bool = Field(default=False, description="Check and report; write nothing.")
    source: SourceName | None = Field(
        default=None, description="The file's name, for the provenance."
    )


class RowFaultSummary(ResponseModel):
    """Fault that several rows share.

    Attributes:
        count: Number of rows.
        lines: Line numbers of the first rows.
        example: Fault of the first row, in words.
        repair: Repair that corrected them, or None.
    """

    kind: RowFaultKind
    count: int
    lines: list[int]
    example: str
    repair: Repair | None


class Gap(ResponseModel):
    """Missing bars between two neighbours; ``line`` is the second neighbour's line."""

    after: datetime
    until: datetime
    missing_bars: int
    line: int


class RecurringPause(ResponseModel):
    """Regular pause in the data between two times of day in UTC, such as a night."""

    start: str
    end: str
    times: int


class GapSummary(ResponseModel):
    """Gaps of a dataset.

    Attributes:
        rule: Definition of a gap, in a sentence.
        count: Number of gaps.
        missing_bars: Number of missing bars in all gaps.
        first: First gaps.
        pauses: Recurring pauses, which are not counted as gaps, most frequent first.
    """

    rule: str
    count: int
    missing_bars: int
    first: list[Gap]
    pauses: list[RecurringPause]


class Dataset(ResponseModel):
    """CSV file of bars under the shared directory.

    Attributes:
        data_hash: SHA-256 of the file, which results record.
        state: State of the file: as imported, changed since its import, or put there by hand.
    """

    symbol: str
    timeframe: str
    path: str
    bars: int
    first: datetime
    last: datetime
    size_bytes: int
    data_hash: str
    state: Literal["imported", "changed", "by hand"]


class ImportReport(ResponseModel):
    """Result of an import.

    Attributes:
        accepted: True if the file is usable with the given options.
        dataset: Imported dataset; None after a dry run.
        rows_read: Number of rows in the file, without header and empty lines.
        bars: Number of bars written, or to be written after a dry run.
        delimiter: Delimiter, as given or detected.
        date_format: Format of the times, as given or detected.
        time_zone: IANA zone of times without a zone.
        repairs: Faults that were corrected.
        faults: Faults that were not corrected.
    """

    accepted: bool
    dataset: Dataset | None
    rows_read: int
    bars: int
    delimiter: Delimiter
    date_format: str
    time_zone: str
    repairs: list[RowFaultSummary]
    faults: list[RowFaultSummary]
    gaps: GapSummary


class Provenance(ResponseModel):
    """Provenance of a dataset, stored beside it.

    Attributes:
        source: Name of the imported file, as the caller gave it.
        imported_at: Time of the import.
        imported_by: Subject of the caller's token.
        report: Result of the import.
    """

    source: str | None
    imported_at: datetime
    imported_by: str
    report: ImportReport


class DatasetDetails(ResponseModel):
    """Dataset with its provenance, which is None if the file was put there or changed by hand."""

    dataset: Dataset
    provenance: Provenance | None
