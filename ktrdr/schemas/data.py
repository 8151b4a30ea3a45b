"""What travels about market data: datasets, and what an import is asked and answers.

As light as `ktrdr.schemas`; times are aware and in UTC.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field

from ktrdr.schemas.base import Answer, Contract

# A file's name as a person may read it on a terminal: no control characters.
SourceName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,255}$")]


class Delimiter(StrEnum):
    """What separates the fields of a line."""

    COMMA = "comma"
    SEMICOLON = "semicolon"
    TAB = "tab"
    PIPE = "pipe"


class Decimal(StrEnum):
    """What separates the whole part of a number from its fraction."""

    POINT = "point"
    COMMA = "comma"


class Repair(StrEnum):
    """What an import may mend, each only if it is asked to."""

    SORT = "sort"
    DROP_DUPLICATES = "drop-duplicates"
    WIDEN = "widen"
    DROP_BAD = "drop-bad"


class GapPolicy(StrEnum):
    """What becomes of a file with gaps."""

    REPORT = "report"
    REFUSE = "refuse"


class FaultKind(StrEnum):
    """What can be wrong with a row."""

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
    def words(self) -> str:
        """What such a row has."""
        return _WORDS[self]


_WORDS: Final = {
    FaultKind.UNREADABLE: "something that cannot be read",
    FaultKind.NOT_FINITE: "a value that is no finite number",
    FaultKind.NOT_POSITIVE: "a price that is not positive",
    FaultKind.NEGATIVE_VOLUME: "a negative volume",
    FaultKind.CROSSED: "a high below the low",
    FaultKind.NOT_ENCLOSED: "a high and a low that do not enclose open and close",
    FaultKind.OUT_OF_ORDER: "a time out of order",
    FaultKind.DUPLICATE: "a bar that stands twice",
    FaultKind.CONFLICT: "a time that stands twice with different values",
}


class ImportOptions(Contract):
    """How a file is read and what is mended; what is left out is recognised, or not done."""

    delimiter: Delimiter | None = Field(default=None, description="Recognised if left out.")
    decimal: Decimal = Decimal.POINT
    date_format: str | None = Field(
        default=None,
        max_length=64,
        description="iso, ymd, mdy, dmy, epoch, epoch-ms, or a strptime format with %; recognised"
        " if left out.",
    )
    time_zone: str = Field(
        default="UTC", max_length=64, description="IANA zone of times that carry none."
    )
    repair: frozenset[Repair] = Field(default=frozenset(), description="What may be mended.")
    gaps: GapPolicy = GapPolicy.REPORT


class ImportRequest(ImportOptions):
    """The query of an import."""

    dry_run: bool = Field(default=False, description="Check and report; write nothing.")
    source: SourceName | None = Field(default=None, description="The file's name, to remember.")


class Finding(Answer):
    """Rows with the same fault.

    Attributes:
        count: How many rows.
        lines: The first of them, as lines of the file.
        example: What is wrong with the first, in words.
        repair: What mended them, or None if nothing did.
    """

    kind: FaultKind
    count: int
    lines: list[int]
    example: str
    repair: Repair | None


class Gap(Answer):
    """Bars that are missing between two neighbours; ``line`` is that of the second."""

    after: datetime
    until: datetime
    missing_bars: int
    line: int


class Pause(Answer):
    """A pause that the data keeps regularly, between two times of day in UTC, such as a night."""

    start: str
    end: str
    times: int


class Gaps(Answer):
    """The gaps of a dataset.

    Attributes:
        rule: What counts as a gap, in a sentence.
        count: How many gaps.
        missing_bars: How many bars they lack together.
        first: The first of them.
        pauses: The regular pauses that were therefore not counted, most frequent first.
    """

    rule: str
    count: int
    missing_bars: int
    first: list[Gap]
    pauses: list[Pause]


class Dataset(Answer):
    """A CSV file of bars under the shared directory.

    Attributes:
        data_hash: SHA-256 of the file, which results record.
        state: Whether the file is as an import left it, was changed afterwards, or was put there
            without an import.
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


class ImportReport(Answer):
    """What an import found and did.

    Attributes:
        accepted: Whether the file is usable as it was asked to be read.
        dataset: What is there now; None after a dry run.
        rows_read: Rows in the file, without header and empty lines.
        bars: Bars that were written, or would be.
        delimiter: As chosen or recognised, as is the format of the times.
        repairs: Faults that were mended.
        faults: Faults that were not.
    """

    accepted: bool
    dataset: Dataset | None
    rows_read: int
    bars: int
    delimiter: Delimiter
    date_format: str
    time_zone: str
    repairs: list[Finding]
    faults: list[Finding]
    gaps: Gaps


class Provenance(Answer):
    """Where a dataset came from; kept beside it.

    Attributes:
        source: The imported file's name, as the importer gave it.
        imported_by: The name in the importer's token.
        report: What the import found and did.
    """

    source: str | None
    imported_at: datetime
    imported_by: str
    report: ImportReport


class DatasetDetails(Answer):
    """A dataset with its history, which one that was put there or changed by hand lacks."""

    dataset: Dataset
    provenance: Provenance | None
