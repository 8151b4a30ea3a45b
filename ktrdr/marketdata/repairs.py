"""Mends what it is asked to mend and counts all that it meets, mended or not."""

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

from ktrdr.marketdata.rows import Bar, Fault, fault_of
from ktrdr.schemas.data import Repair, RowFault, RowFaultKind

# More lines would not help anybody to mend the file.
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
class _Count:
    count: int = 0
    lines: list[int] = field(default_factory=list)
    example: str = ""


class Mender:
    """Turns rows into bars in the order of their times; what it cannot mend it leaves out."""

    def __init__(self, repairs: Iterable[Repair], *, scratch: Path) -> None:
        """``scratch`` is a directory for what does not belong into memory when sorting."""
        self._repairs = frozenset(repairs)
        self._scratch = scratch
        self._counts: dict[tuple[RowFaultKind, Repair | None], _Count] = {}
        self.rows_read = 0
        self.has_faults = False

    def mend(self, rows: Iterable[Bar | Fault]) -> Iterator[Bar]:
        """The good bars and the mended ones; times ascend, and none stands twice."""
        good = self._possible(rows)
        ordered = self._sorted(good) if Repair.SORT in self._repairs else self._ascending(good)
        return self._single(ordered)

    def findings(self, *, mended: bool) -> list[RowFault]:
        """What was mended, or what was not, by kind."""
        return [
            RowFault(
                kind=kind,
                count=found.count,
                lines=found.lines,
                example=found.example,
                repair=repair,
            )
            for (kind, repair), found in sorted(
                self._counts.items(), key=lambda item: list(RowFaultKind).index(item[0][0])
            )
            if (repair is not None) == mended
        ]

    def _note(self, line: int, kind: RowFaultKind, text: str, repair: Repair | None) -> bool:
        """Counts a fault; says whether it is mended by ``repair``, if that was asked for."""
        mended = repair if repair in self._repairs else None
        found = self._counts.setdefault((kind, mended), _Count())
        found.count += 1
        found.example = found.example or text
        if len(found.lines) < LINES_SHOWN:
            found.lines.append(line)
        self.has_faults = self.has_faults or mended is None
        return mended is not None

    def _possible(self, rows: Iterable[Bar | Fault]) -> Iterator[Bar]:
        for row in rows:
            self.rows_read += 1
            if isinstance(row, Bar):
                yield row
                continue
            line, kind, text, bar = row
            if kind is RowFaultKind.NOT_ENCLOSED and bar and Repair.WIDEN in self._repairs:
                self._note(line, kind, text, Repair.WIDEN)
                yield _widened(bar)
            else:
                self._note(line, kind, text, Repair.DROP_BAD)

    def _ascending(self, bars: Iterable[Bar]) -> Iterator[Bar]:
        latest = None
        for bar in bars:
            if latest is not None and bar.time < latest:
                self._out_of_order(bar)
                continue
            latest = bar.time
            yield bar

    def _sorted(self, bars: Iterable[Bar]) -> Iterator[Bar]:
        """Keeps the bars in a file and only their order in memory: some 50 bytes each."""
        times = array("q")
        with tempfile.TemporaryFile(dir=self._scratch) as file:
            latest = None
            for bar in bars:
                if latest is not None and bar.time < latest:
                    self._out_of_order(bar)
                else:
                    latest = bar.time
                times.append(bar.time)
                file.write(_BAR.pack(*bar))
            file.flush()
            yield from _read_in_order(file, times)

    def _out_of_order(self, bar: Bar) -> None:
        text = f"{show(bar.time)} is earlier than a row before it"
        self._note(bar.line, RowFaultKind.OUT_OF_ORDER, text, Repair.SORT)

    def _single(self, bars: Iterable[Bar]) -> Iterator[Bar]:
        """One bar for each time: the last of those that have it."""
        kept: Bar | None = None
        for bar in bars:
            if kept is not None and bar.time == kept.time:
                same = bar[1:] == kept[1:]
                kind = RowFaultKind.DUPLICATE if same else RowFaultKind.CONFLICT
                how = "the same bar as" if same else "other values than"
                text = f"{show(bar.time)} stands twice, with {how} in line {kept.line}"
                self._note(bar.line, kind, text, Repair.DROP_DUPLICATES)
            elif kept is not None:
                yield kept
            kept = bar
        if kept is not None:
            yield kept


def _read_in_order(file: IO[bytes], times: array[int]) -> Iterator[Bar]:
    if not times:
        return
    order = sorted(range(len(times)), key=times.__getitem__)
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stored:
        for index in order:
            yield Bar(*_BAR.unpack_from(stored, index * _BAR.size))


def _widened(bar: Bar) -> Bar:
    prices = (bar.open, bar.high, bar.low, bar.close)
    widened = bar._replace(high=max(prices), low=min(prices))
    assert fault_of(widened) is None  # noqa: S101  # nothing else was wrong with it
    return widened


def show(time: int) -> str:
    """A time as the canonical files write it."""
    return f"{datetime.fromtimestamp(time, tz=UTC):%Y-%m-%dT%H:%M:%SZ}"
