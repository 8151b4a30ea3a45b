"""Says on a terminal what an import found, and what is known of a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from ktrdr.cli.render import heading, say, write_pairs
from ktrdr.schemas.data import Dataset, DatasetDetails, GapSummary, ImportReport, RowFault

Pairs = Iterator[tuple[str, str]]


def write_report(report: ImportReport) -> None:
    """What an import, or a dry run of one, found and did."""
    if report.dataset is not None:
        say(f"imported {_name(report.dataset)}: {_range(report.dataset)}")
    elif report.accepted:
        say(f"would import {report.bars:,} bars; nothing was written")
    pairs = list(_findings(report))
    if report.dataset is not None:
        pairs.append(("hash", report.dataset.data_hash))
    write_pairs(pairs)


def write_details(details: DatasetDetails) -> None:
    """A dataset and its history."""
    dataset, history = details.dataset, details.provenance
    heading(_name(dataset))
    pairs = [
        ("bars", _range(dataset)),
        ("file", f"{dataset.path}, {_size(dataset.size_bytes)}"),
        ("hash", dataset.data_hash),
        ("state", _state(dataset)),
    ]
    if history is not None:
        source = f"{history.source}, " if history.source else ""
        pairs.append(("from", f"{source}by {history.imported_by}, {_minute(history.imported_at)}"))
        pairs += _findings(history.report)
    write_pairs(pairs)


def _name(dataset: Dataset) -> str:
    return f"{dataset.symbol} {dataset.timeframe}"


def _range(dataset: Dataset) -> str:
    return f"{dataset.bars:,} bars, {dataset.first:%Y-%m-%d} to {dataset.last:%Y-%m-%d}"


def _state(dataset: Dataset) -> str:
    return {
        "imported": "as it was imported",
        "changed": "changed by hand since it was imported",
        "by hand": "put there without an import: its rows were not checked",
    }[dataset.state]


def _findings(report: ImportReport) -> Pairs:
    format_ = f"{report.delimiter}, dates as {report.date_format}, {report.time_zone}"
    yield "read", f"{report.rows_read:,} rows; {format_}"
    for finding in report.repairs:
        yield "repaired", _in_words(finding)
    for finding in report.faults:
        yield "fault", _in_words(finding)
    yield from _gaps(report.gaps)


def _in_words(finding: RowFault) -> str:
    lines = ", ".join(map(str, finding.lines))
    by = f" ({finding.repair})" if finding.repair else ""
    if finding.count == 1:
        return f"line {lines}: {finding.example}{by}"
    more = " …" if finding.count > len(finding.lines) else ""
    kind = f"{finding.count:,} rows with {finding.kind.description}{by}"
    return f"{kind}; line {lines}{more}; the first: {finding.example}"


def _gaps(gaps: GapSummary) -> Pairs:
    yield "gaps", f"{gaps.count:,}, {gaps.missing_bars:,} bars missing" if gaps.count else "none"
    for gap in gaps.first:
        span = f"{_minute(gap.after)} to {_minute(gap.until)}"
        yield "", f"{span}: {gap.missing_bars:,} missing before line {gap.line}"
    if gaps.count > len(gaps.first):
        yield "", f"and {gaps.count - len(gaps.first):,} more"
    yield "", f"(a gap is {gaps.rule})"
    for pause in gaps.pauses:
        yield "pause", f"{pause.start} to {pause.end} UTC, {pause.times:,} times"


def _size(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 1e5 else f"{number / 1e3:.1f} kB"


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
