"""`ktrdr data`: market data in the shared directory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import click

from ktrdr.cli.render import (
    json_option,
    write_heading,
    write_json,
    write_note,
    write_pairs,
    write_table,
)
from ktrdr.client.backend import open_backend
from ktrdr.errors import UsageError
from ktrdr.schemas.data import (
    Dataset,
    DatasetDetails,
    DecimalSeparator,
    Delimiter,
    GapPolicy,
    GapSummary,
    ImportReport,
    ImportRequest,
    Repair,
    RowFaultSummary,
)

_Pairs = Iterator[tuple[str, str]]
_STATES: Final = {
    "imported": "unchanged since the import",
    "changed": "changed by hand since the import",
    "by hand": "not imported, so its rows were not checked",
}


@click.group()
def data() -> None:
    """Import, list and remove market data."""


@data.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--symbol", required=True, metavar="NAME", help="Symbol, such as SP500.")
@click.option(
    "--timeframe",
    default="1d",
    metavar="TIMEFRAME",
    show_default=True,
    help="Length of a bar, such as 30m, 1h or 1d.",
)
@click.option(
    "--delimiter",
    type=click.Choice([delimiter.value for delimiter in Delimiter]),
    help="Separator of the fields.  [default: detected]",
)
@click.option(
    "--decimal",
    type=click.Choice([decimal.value for decimal in DecimalSeparator]),
    default=DecimalSeparator.POINT.value,
    show_default=True,
    help="Decimal separator.",
)
@click.option(
    "--date-format",
    metavar="FORMAT",
    help="iso, ymd, mdy, dmy, epoch, epoch-ms, or a strptime format.  [default: detected]",
)
@click.option(
    "--time-zone",
    metavar="ZONE",
    default="UTC",
    show_default=True,
    help="Time zone of times without one, such as America/New_York.",
)
@click.option(
    "--repair",
    multiple=True,
    type=click.Choice([repair.value for repair in Repair]),
    help="Repair this kind of fault; may be repeated.  [default: no repair]",
)
@click.option(
    "--gaps",
    type=click.Choice([policy.value for policy in GapPolicy]),
    default=GapPolicy.REPORT.value,
    show_default=True,
    help="Report missing bars, or refuse the file.",
)
@click.option("--check", is_flag=True, help="Check the file without importing it.")
@json_option
def import_file(
    file: Path,
    symbol: str,
    timeframe: str,
    delimiter: str | None,
    decimal: str,
    date_format: str | None,
    time_zone: str,
    repair: tuple[str, ...],
    gaps: str,
    check: bool,
    as_json: bool,
) -> None:
    """Import a CSV file of OHLCV bars, plain or gzip.

    Every row is checked. If a row has a fault that no --repair covers, the whole file is refused,
    and the error names the lines.
    """
    for option, text in (("--date-format", date_format), ("--time-zone", time_zone)):
        if text and len(text) > 64:
            raise UsageError(
                f"the value of {option} is longer than 64 characters",
                hint="See docs/market-data.md.",
            )
    request = ImportRequest(
        delimiter=Delimiter(delimiter) if delimiter else None,
        decimal=DecimalSeparator(decimal),
        date_format=date_format,
        time_zone=time_zone or "UTC",
        repair=frozenset(map(Repair, repair)),
        gaps=GapPolicy(gaps),
        dry_run=check,
        # Without characters that a terminal or the API cannot handle.
        source=re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", "?", file.name)[:255],
    )
    with open_backend() as api, file.open("rb") as content:
        report = api.import_dataset(content, symbol, timeframe, request)
    if as_json:
        write_json(report)
    else:
        _write_report(report)
    if not report.accepted:
        raise UsageError(
            f"{file.name} would be refused as {symbol} {timeframe}",
            hint="Correct the file, or choose repairs; see docs/market-data.md.",
        )


@data.command("list")
@json_option
def list_data(as_json: bool) -> None:
    """List the datasets."""
    with open_backend() as api:
        datasets = api.list_datasets()
    if as_json:
        write_json(datasets)
        return
    write_table(
        ("symbol", "timeframe", ">bars", "first", "last", ">size", "hash", "state"),
        [
            (
                dataset.symbol,
                dataset.timeframe,
                f"{dataset.bars:,}",
                f"{dataset.first:%Y-%m-%d}",
                f"{dataset.last:%Y-%m-%d}",
                f"{dataset.size_bytes / 1e6:.1f} MB",
                dataset.data_hash[:8],
                dataset.state,
            )
            for dataset in datasets
        ],
        empty="There is no data; import some with `ktrdr data import FILE --symbol NAME`.",
    )


@data.command("show")
@click.argument("symbol")
@click.argument("timeframe", required=False)
@json_option
def show(symbol: str, timeframe: str | None, as_json: bool) -> None:
    """Show the hash, origin, repairs and gaps of SYMBOL's datasets."""
    with open_backend() as api:
        datasets = (
            [api.get_dataset(symbol, timeframe)] if timeframe else api.list_symbol_datasets(symbol)
        )
    if as_json:
        write_json(datasets)
        return
    for details in datasets:
        _write_details(details)


@data.command("remove")
@click.argument("symbol")
@click.argument("timeframe")
@click.option("--yes", is_flag=True, help="Remove without confirmation.")
def remove(symbol: str, timeframe: str, yes: bool) -> None:
    """Remove a dataset. Results that used it are kept."""
    with open_backend() as api:
        dataset = api.get_dataset(symbol, timeframe).dataset
        if not yes:
            click.confirm(
                f"Remove the {dataset.bars:,} bars of {symbol} {timeframe}?", abort=True, err=True
            )
        api.remove_dataset(symbol, timeframe)
    write_note(f"removed {symbol} {timeframe}")


def _write_report(report: ImportReport) -> None:
    dataset = report.dataset
    if dataset is not None:
        write_note(f"imported {dataset.symbol} {dataset.timeframe}: {_format_range(dataset)}")
    elif report.accepted:
        write_note(f"would import {report.bars:,} bars; nothing was written")
    pairs = list(_report_pairs(report))
    if dataset is not None:
        pairs.append(("hash", dataset.data_hash))
    write_pairs(pairs)


def _write_details(details: DatasetDetails) -> None:
    dataset, history = details.dataset, details.provenance
    size = dataset.size_bytes
    size_text = f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
    write_heading(f"{dataset.symbol} {dataset.timeframe}")
    pairs = [
        ("bars", _format_range(dataset)),
        ("file", f"{dataset.path}, {size_text}"),
        ("hash", dataset.data_hash),
        ("state", _STATES[dataset.state]),
    ]
    if history is not None:
        source = f"{history.source}, " if history.source else ""
        time = _format_minute(history.imported_at)
        pairs.append(("source", f"{source}by {history.imported_by}, {time}"))
        pairs += _report_pairs(history.report)
    write_pairs(pairs)


def _report_pairs(report: ImportReport) -> _Pairs:
    layout = f"{report.delimiter}, dates as {report.date_format}, {report.time_zone}"
    yield "read", f"{report.rows_read:,} rows; {layout}"
    for finding in report.repairs:
        yield "repaired", _describe_finding(finding)
    for finding in report.faults:
        yield "fault", _describe_finding(finding)
    yield from _gap_pairs(report.gaps)


def _describe_finding(finding: RowFaultSummary) -> str:
    lines = ", ".join(map(str, finding.lines))
    repair = f" ({finding.repair})" if finding.repair else ""
    if finding.count == 1:
        return f"line {lines}: {finding.example}{repair}"
    more = " …" if finding.count > len(finding.lines) else ""
    rows = f"{finding.count:,} rows with {finding.kind.description}{repair}"
    return f"{rows}; line {lines}{more}; the first: {finding.example}"


def _gap_pairs(gaps: GapSummary) -> _Pairs:
    yield "gaps", f"{gaps.count:,}, {gaps.missing_bars:,} bars missing" if gaps.count else "none"
    for gap in gaps.first:
        span = f"{_format_minute(gap.after)} to {_format_minute(gap.until)}"
        yield "", f"{span}: {gap.missing_bars:,} missing before line {gap.line}"
    if gaps.count > len(gaps.first):
        yield "", f"and {gaps.count - len(gaps.first):,} more"
    yield "", f"(a gap is {gaps.rule})"
    for pause in gaps.pauses:
        yield "pause", f"{pause.start} to {pause.end} UTC, {pause.times:,} times"


def _format_range(dataset: Dataset) -> str:
    return f"{dataset.bars:,} bars, {dataset.first:%Y-%m-%d} to {dataset.last:%Y-%m-%d}"


def _format_minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
