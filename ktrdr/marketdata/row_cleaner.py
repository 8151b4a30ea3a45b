"""Repair of faulty rows, and a count of all faults."""

from __future__ import annotations

import mmap
import struct
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from ktrdr.marketdata.csv_rows import Bar, RowFault, find_fault
from ktrdr.schemas.data import Repair, RowFaultKind, RowFaultSummary

# More lines would not help to correct the file.
LINES_SHOWN: Final = 5
REPAIR_OF: Final = {
    RowFaultKind.UNREADABLE: Repair.DROP_BAD,
    RowFaultKind.NOT_FINITE: Repair.DROP_BAD,
    RowFaultKind.NOT_POSITIVE: Repair.DROP_BAD,
    RowFaultKind.NEGATIVE_VOLUME: Repair.DROP_BAD,
    RowFaultKind.CROSSED: Repair.DROP_BAD,
    RowFaultKind.NOT_ENCLOSED: Repair.WIDEN,
    RowFaultKind.OUT_OF_ORDER: Repair.SORT,
    RowFaultKind.DUPLICATE: Repair.DROP_DUPLICATES,
    RowFaultKind.CONFLICT: Repair.DROP_DUPLICATES,
}
_BAR: Final = struct.Struct("<qq5d")


@dataclass(slots=True)
class _FaultCount:
    count: int = 0
    lines: list[int] = field(default_factory=list)
    example: str = ""


class RowCleaner:
    """Cleaner that turns rows into bars in ascending order, and drops rows it cannot repair."""

    def __init__(self, repairs: Iterable[Repair], *, scratch: Path) -> None:
        """Create a cleaner.

        Args:
            repairs: Repairs to make.
            scratch: Directory of the temporary file in which sorting stores the bars.
        """
        self._repairs = frozenset(repairs)
        self._scratch = scratch
        self._counts: dict[tuple[RowFaultKind, Repair | None], _FaultCount] = {}
        self.rows_read = 0
        self.has_faults = False

    def clean(self, rows: Iterable[Bar | RowFault]) -> Iterator[Bar]:
        """Yield good and repaired bars with ascending, unique times."""
        bars = self._repair_rows(rows)
        ordered = self._sort(bars) if Repair.SORT in self._repairs else self._drop_unordered(bars)
        return self._drop_duplicates(ordered)

    def summarise_faults(self, *, repaired: bool) -> list[RowFaultSummary]:
        """Return the faults that were repaired, or those that were not, by kind."""
        order = list(RowFaultKind)
        return [
            RowFaultSummary(
                kind=kind,
                count=fault.count,
                lines=fault.lines,
                example=fault.example,
                repair=repair,
            )
            for (kind, repair), fault in sorted(
                self._counts.items(), key=lambda item: order.index(item[0][0])
            )
            if (repair is not None) == repaired
        ]

    def _count(self, line: int, kind: RowFaultKind, text: str, repair: Repair) -> None:
        """Count a fault, as repaired if its repair was requested."""
        applied = repair if repair in self._repairs else None
        fault = self._counts.setdefault((kind, applied), _FaultCount())
        fault.count += 1
        fault.example = fault.example or text
        if len(fault.lines) < LINES_SHOWN:
            fault.lines.append(line)
        self.has_faults = self.has_faults or applied is None

    def _repair_rows(self, rows: Iterable[Bar | RowFault]) -> Iterator[Bar]:
        for row in rows:
            self.rows_read += 1
            if isinstance(row, Bar):
                yield row
                continue
            line, kind, text, bar = row
            if kind is RowFaultKind.NOT_ENCLOSED and bar and Repair.WIDEN in self._repairs:
                self._count(line, kind, text, Repair.WIDEN)
                yield _widen(bar)
            else:
                self._count(line, kind, text, Repair.DROP_BAD)

    def _drop_unordered(self, bars: Iterable[Bar]) -> Iterator[Bar]:
        latest = None
        for bar in bars:
            if latest is not None and bar.time < latest:
                self._count_unordered(bar)
                continue
            latest = bar.time
            yield bar

    def _sort(self, bars: Iterable[Bar]) -> Iterator[Bar]:
        """Sort the bars on disk, with only their order in memory: about 50 bytes a bar."""
        times = array("q")
        with tempfile.TemporaryFile(dir=self._scratch) as file:
            latest = None
            for bar in bars:
                if latest is not None and bar.time < latest:
                    self._count_unordered(bar)
                else:
                    latest = bar.time
                times.append(bar.time)
                file.write(_BAR.pack(*bar))
            file.flush()
            yield from _read_in_order(file, times)

    def _count_unordered(self, bar: Bar) -> None:
        text = f"{_format_time(bar.time)} is earlier than a previous row"
        self._count(bar.line, RowFaultKind.OUT_OF_ORDER, text, Repair.SORT)

    def _drop_duplicates(self, bars: Iterable[Bar]) -> Iterator[Bar]:
        """Yield one bar for each time: the last one."""
        pending: Bar | None = None
        for bar in bars:
            if pending is not None and bar.time == pending.time:
                is_same = bar[1:] == pending[1:]
                kind = RowFaultKind.DUPLICATE if is_same else RowFaultKind.CONFLICT
                difference = "the same bar as" if is_same else "different values than"
                text = (
                    f"{_format_time(bar.time)} appears twice, with {difference} in line "
                    f"{pending.line}"
                )
                self._count(bar.line, kind, text, Repair.DROP_DUPLICATES)
            elif pending is not None:
                yield pending
            pending = bar
        if pending is not None:
            yield pending


def _read_in_order(file: IO[bytes], times: array[int]) -> Iterator[Bar]:
    if not times:
        return
    order = sorted(range(len(times)), key=times.__getitem__)
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stored:
        for index in order:
            yield Bar(*_BAR.unpack_from(stored, index * _BAR.size))


def _widen(bar: Bar) -> Bar:
    prices = (bar.open, bar.high, bar.low, bar.close)
    widened = bar._replace(high=max(prices), low=min(prices))
    assert find_fault(widened) is None  # noqa: S101  # the bar had no other fault
    return widened


def _format_time(time: int) -> str:
    return f"{datetime.fromtimestamp(time, tz=UTC):%Y-%m-%dT%H:%M:%SZ}"
