"""Brings a CSV file in as a dataset, or says why not.

Memory does not grow with the file, except for the order of its rows if they are to be sorted.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, Protocol, TextIO, cast

from ktrdr.errors import HostNotReady, UsageError
from ktrdr.marketdata.catalogue import dataset_path, relative_path
from ktrdr.marketdata.gaps import GapFinder
from ktrdr.marketdata.repairs import REPAIR_OF, Mender
from ktrdr.marketdata.rows import read_table
from ktrdr.marketdata.store import BarWriter, sweep
from ktrdr.schemas.data import (
    Dataset,
    GapPolicy,
    GapSummary,
    ImportOptions,
    ImportReport,
    ImportRequest,
    Provenance,
    RowFault,
)

_GZIP_MAGIC: Final = b"\x1f\x8b"


class Readable(Protocol):
    """A binary file that can be read again from its start."""

    def read(self, size: int = ..., /) -> bytes:
        """At most ``size`` bytes."""
        ...

    def seek(self, offset: int, /) -> object:
        """Goes to a place."""
        ...


def import_csv(
    source: Readable,
    root: Path,
    symbol: str,
    timeframe: str,
    request: ImportRequest | None = None,
    *,
    by: str = "nobody",
    now: datetime | None = None,
) -> ImportReport:
    """Checks every row of a CSV file, plain or gzip, and puts it in place as a dataset.

    What was there before stays until the new file is complete.

    Args:
        source: The file.
        root: The directory of all datasets.
        symbol: What the bars are of.
        timeframe: How long a bar is.
        request: How to read the file, and what to mend.
        by: Who imports it.
        now: When; the present if left out.

    Raises:
        UsageError: The names or the file cannot be used; nothing has changed.
        HostNotReady: The shared directory cannot be written.
    """
    request = request or ImportRequest()
    target = dataset_path(root, symbol, timeframe)
    with _translated(target):
        if request.dry_run:
            return _read(source, timeframe, request, root)
        root.mkdir(exist_ok=True)
        sweep(root)
        writer = BarWriter(target)
        try:
            report = _read(source, timeframe, request, root, writer)
            if not report.accepted:
                raise UsageError(_refusal(report), hint=_remedy(report))
            data_hash, status = writer.finish()
            dataset = Dataset(
                symbol=symbol,
                timeframe=timeframe,
                path=relative_path(target),
                bars=writer.bars,
                first=datetime.fromtimestamp(writer.first, tz=UTC),
                last=datetime.fromtimestamp(writer.last, tz=UTC),
                size_bytes=status.st_size,
                data_hash=data_hash,
                state="imported",
            )
            report = report.model_copy(update={"dataset": dataset})
            writer.publish(
                Provenance(
                    source=request.source,
                    imported_at=now or datetime.now(UTC),
                    imported_by=by,
                    report=report,
                )
            )
            return report
        finally:
            writer.close()


def _read(
    source: Readable,
    timeframe: str,
    options: ImportOptions,
    root: Path,
    writer: BarWriter | None = None,
) -> ImportReport:
    """Reads a file to its end; what is good goes to ``writer`` as long as all of it is good."""
    table = read_table(_text(source), options)
    # What is to be sorted needs room, also when nothing is to be written.
    mender = Mender(options.repair, scratch=root if root.is_dir() else root.parent)
    finder = GapFinder(timeframe)
    bars = 0
    for bar in mender.mend(table.rows):
        bars += 1
        finder.observe(bar.line, bar.time)
        if writer is not None and not mender.has_faults:
            writer.write(bar)
    gaps = finder.report()
    refused = mender.has_faults or not bars or (options.gaps is GapPolicy.REFUSE and gaps.count)
    return ImportReport(
        accepted=not refused,
        dataset=None,
        rows_read=mender.rows_read,
        bars=bars,
        delimiter=table.delimiter,
        date_format=table.date_format,
        time_zone=options.time_zone,
        repairs=mender.findings(mended=True),
        faults=mender.findings(mended=False),
        gaps=gaps,
    )


def _refusal(report: ImportReport) -> str:
    if report.faults:
        return f"the file is not usable: {'; '.join(_in_words(each) for each in report.faults)}"
    if not report.bars:
        return "nothing is left of the file after its repair"
    return f"the file has gaps: {_first_gaps(report.gaps)}"


def _in_words(finding: RowFault) -> str:
    """All rows with a fault, and what is wrong with the first."""
    if finding.count == 1:
        return f"line {finding.lines[0]}: {finding.example}"
    lines = ", ".join(map(str, finding.lines))
    more = " and more" if finding.count > len(finding.lines) else ""
    return (
        f"{finding.count:,} rows with {finding.kind.description} (line {lines}{more}; the first:"
        f" {finding.example})"
    )


def _first_gaps(gaps: GapSummary) -> str:
    first = ", ".join(f"line {gap.line} (after {gap.after:%Y-%m-%d %H:%M})" for gap in gaps.first)
    more = " and more" if gaps.count > len(gaps.first) else ""
    return f"{gaps.count:,} with {gaps.missing_bars:,} missing bars, before {first}{more}"


def _remedy(report: ImportReport) -> str:
    if not report.faults:
        return "Import it with --gaps report to take it as it is."
    repairs: Sequence[str] = sorted({REPAIR_OF[each.kind] for each in report.faults})
    options = " ".join(f"--repair {each}" for each in repairs)
    return f"Correct these lines, or have them mended with {options}."


def _text(source: Readable) -> TextIO:
    magic = source.read(len(_GZIP_MAGIC))
    source.seek(0)
    file = cast("BinaryIO", source)
    if magic == _GZIP_MAGIC:
        # Left to guess, it would take a temporary file, open for both, for one to write to.
        file = cast("BinaryIO", gzip.GzipFile(fileobj=file, mode="rb"))
    return io.TextIOWrapper(file, encoding="utf-8", newline="")


@contextmanager
def _translated(target: Path) -> Iterator[None]:
    try:
        yield
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as exc:
        raise UsageError(
            f"the file is neither CSV text in UTF-8 nor gzip of it ({type(exc).__name__})",
            hint="Export it as plain CSV.",
        ) from exc
    except OSError as exc:
        raise HostNotReady(
            f"{target} cannot be written ({exc.strerror or exc})",
            hint="Check the shared directory's space and owner (user 10001).",
        ) from exc
