"""Import of CSV files as datasets.

Memory does not grow with the file, except for the order of the rows when they are sorted.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, Protocol, TextIO, cast

from ktrdr.errors import HostNotReady, UsageError
from ktrdr.marketdata.catalogue import dataset_path, relative_path
from ktrdr.marketdata.csv_rows import read_table
from ktrdr.marketdata.gaps import GapFinder
from ktrdr.marketdata.row_cleaner import REPAIR_OF, RowCleaner
from ktrdr.marketdata.store import BarWriter, remove_import_orphans
from ktrdr.schemas.data import (
    Dataset,
    GapPolicy,
    ImportOptions,
    ImportReport,
    ImportRequest,
    Provenance,
    RowFaultSummary,
)

_GZIP_MAGIC: Final = b"\x1f\x8b"


class SeekableReader(Protocol):
    """A binary file that can be read again from its start."""

    def read(self, size: int = ..., /) -> bytes: ...

    def seek(self, offset: int, /) -> object: ...


def import_csv(
    source: SeekableReader,
    root: Path,
    symbol: str,
    timeframe: str,
    request: ImportRequest | None = None,
    *,
    imported_by: str = "nobody",
    now: datetime | None = None,
) -> ImportReport:
    """Validate all rows of a CSV file, plain or gzip, and publish it as a dataset.

    An earlier dataset stays until the new file is complete.

    Args:
        source: File to import.
        root: Directory of all datasets.
        symbol: Symbol of the bars.
        timeframe: Length of a bar.
        request: Format of the file and repairs, or None for the defaults.
        imported_by: Name of the importer.
        now: Time of the import, or None for the current time.

    Raises:
        UsageError: The names or the file are invalid. Nothing has changed.
        HostNotReady: The shared directory cannot be written.
    """
    request = request or ImportRequest()
    target = dataset_path(root, symbol, timeframe)
    with _translate_errors(target):
        if request.dry_run:
            return _read_file(source, timeframe, request, root)
        root.mkdir(exist_ok=True)
        remove_import_orphans(root)
        writer = BarWriter(target)
        try:
            report = _read_file(source, timeframe, request, root, writer)
            if not report.accepted:
                raise _rejection(report)
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
                    imported_by=imported_by,
                    report=report,
                )
            )
            return report
        finally:
            writer.close()


def _read_file(
    source: SeekableReader,
    timeframe: str,
    options: ImportOptions,
    root: Path,
    writer: BarWriter | None = None,
) -> ImportReport:
    """Read a file to its end, and write its bars until the first fault that is not repaired."""
    table = read_table(_open_text(source), options)
    # Sorting needs a directory, even if the dataset is not written.
    cleaner = RowCleaner(options.repair, scratch=root if root.is_dir() else root.parent)
    finder = GapFinder(timeframe)
    bars = 0
    for bar in cleaner.clean(table.rows):
        bars += 1
        finder.add_bar(bar.line, bar.time)
        if writer is not None and not cleaner.has_faults:
            writer.write(bar)
    gaps = finder.build_report()
    is_rejected = cleaner.has_faults or not bars
    is_rejected = is_rejected or (options.gaps is GapPolicy.REFUSE and gaps.count > 0)
    return ImportReport(
        accepted=not is_rejected,
        dataset=None,
        rows_read=cleaner.rows_read,
        bars=bars,
        delimiter=table.delimiter,
        date_format=table.date_format,
        time_zone=options.time_zone,
        repairs=cleaner.summarise_faults(repaired=True),
        faults=cleaner.summarise_faults(repaired=False),
        gaps=gaps,
    )


def _rejection(report: ImportReport) -> UsageError:
    if report.faults:
        options = sorted({f"--repair {REPAIR_OF[fault.kind]}" for fault in report.faults})
        return UsageError(
            f"the file is not usable: {'; '.join(map(_describe_fault, report.faults))}",
            hint=f"Correct these lines, or repair them with {' '.join(options)}.",
        )
    if not report.bars:
        return UsageError(
            "the file has no bars left after the repairs",
            hint="Correct its rows, or choose another --date-format.",
        )
    gaps = report.gaps
    first = ", ".join(f"line {gap.line} (after {gap.after:%Y-%m-%d %H:%M})" for gap in gaps.first)
    more = " and more" if gaps.count > len(gaps.first) else ""
    return UsageError(
        f"the file has gaps: {gaps.count:,} with {gaps.missing_bars:,} missing bars, before "
        f"{first}{more}",
        hint="Accept the file as it is with --gaps report.",
    )


def _describe_fault(fault: RowFaultSummary) -> str:
    """Return the count and the lines of a fault, with the first as an example."""
    if fault.count == 1:
        return f"line {fault.lines[0]}: {fault.example}"
    lines = ", ".join(map(str, fault.lines))
    more = " and more" if fault.count > len(fault.lines) else ""
    return (
        f"{fault.count:,} rows with {fault.kind.description} (line {lines}{more}; the first:"
        f" {fault.example})"
    )


def _open_text(source: SeekableReader) -> TextIO:
    magic = source.read(len(_GZIP_MAGIC))
    source.seek(0)
    file = cast("BinaryIO", source)
    if magic == _GZIP_MAGIC:
        # GzipFile would derive the mode from the file, and write to a temporary file.
        file = cast("BinaryIO", gzip.GzipFile(fileobj=file, mode="rb"))
    return io.TextIOWrapper(file, encoding="utf-8", newline="")


@contextmanager
def _translate_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as exc:
        raise UsageError(
            f"the file is neither UTF-8 CSV text nor gzip-compressed CSV ({type(exc).__name__})",
            hint="Export it as plain CSV.",
        ) from exc
    except OSError as exc:
        raise HostNotReady(
            f"{target} cannot be written ({exc.strerror or exc})",
            hint="Check the shared directory's space and owner (user 10001).",
        ) from exc
