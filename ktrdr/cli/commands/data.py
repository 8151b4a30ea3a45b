"""`ktrdr data`: market data in the shared directory."""

from __future__ import annotations

import re
from pathlib import Path

import click

from ktrdr.cli.connection import backend
from ktrdr.cli.dataset_summary import write_details, write_report
from ktrdr.cli.render import json_option, say, write_json, write_table
from ktrdr.errors import UsageError
from ktrdr.schemas.data import DecimalSeparator, Delimiter, GapPolicy, ImportRequest, Repair


@click.group()
def data() -> None:
    """Bring in, look at and remove market data."""


@data.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--symbol", required=True, help="What the bars are of, such as SP500.")
@click.option("--timeframe", default="1d", show_default=True, help="The length of a bar.")
@click.option(
    "--delimiter",
    type=click.Choice([each.value for each in Delimiter]),
    help="What separates the fields; recognised if left out.",
)
@click.option(
    "--decimal",
    type=click.Choice([each.value for each in DecimalSeparator]),
    default=DecimalSeparator.POINT.value,
    show_default=True,
    help="What numbers have before their fraction.",
)
@click.option(
    "--date-format",
    metavar="FORMAT",
    help="iso, ymd, mdy, dmy, epoch, epoch-ms, or a strptime format; recognised if left out.",
)
@click.option(
    "--time-zone",
    metavar="ZONE",
    default="UTC",
    show_default=True,
    help="The zone of times that carry none, such as America/New_York.",
)
@click.option(
    "--repair",
    multiple=True,
    type=click.Choice([each.value for each in Repair]),
    help="Mend this; may be repeated. Nothing is mended without it.",
)
@click.option(
    "--gaps",
    type=click.Choice([each.value for each in GapPolicy]),
    default=GapPolicy.REPORT.value,
    show_default=True,
    help="What to do about missing bars.",
)
@click.option("--check", is_flag=True, help="Say what would be done, and write nothing.")
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

    Every row is checked. A file with a fault is refused whole, with the lines named, unless the
    repair of this kind of fault is asked for.
    """
    request = ImportRequest(
        delimiter=Delimiter(delimiter) if delimiter else None,
        decimal=DecimalSeparator(decimal),
        date_format=_short("--date-format", date_format),
        time_zone=_short("--time-zone", time_zone) or "UTC",
        repair=frozenset(map(Repair, repair)),
        gaps=GapPolicy(gaps),
        dry_run=check,
        source=_readable(file.name),
    )
    with backend() as api, file.open("rb") as content:
        report = api.import_dataset(content, symbol, timeframe, request)
    if as_json:
        write_json(report)
    else:
        write_report(report)
    if not report.accepted:
        raise UsageError(
            f"{file.name} would be refused as {symbol} {timeframe}",
            hint="Correct it, or choose repairs; see docs/data.md.",
        )


@data.command("list")
@json_option
def list_data(as_json: bool) -> None:
    """List the datasets."""
    with backend() as api:
        datasets = api.datasets()
    if as_json:
        write_json(datasets)
        return
    write_table(
        ("symbol", "timeframe", ">bars", "first", "last", ">size", "hash", "state"),
        [
            (
                each.symbol,
                each.timeframe,
                f"{each.bars:,}",
                f"{each.first:%Y-%m-%d}",
                f"{each.last:%Y-%m-%d}",
                f"{each.size_bytes / 1e6:.1f} MB",
                each.data_hash[:8],
                each.state,
            )
            for each in datasets
        ],
        empty="There is no data yet; bring some in with `ktrdr data import FILE --symbol NAME`.",
    )


@data.command("show")
@click.argument("symbol")
@click.argument("timeframe", required=False)
@json_option
def show(symbol: str, timeframe: str | None, as_json: bool) -> None:
    """Show what is known of SYMBOL's data: hash, origin, repairs, gaps."""
    with backend() as api:
        found = [api.dataset(symbol, timeframe)] if timeframe else api.datasets_of(symbol)
    if as_json:
        write_json(found)
        return
    for details in found:
        write_details(details)


@data.command("remove")
@click.argument("symbol")
@click.argument("timeframe")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(symbol: str, timeframe: str, yes: bool) -> None:
    """Remove a dataset; results that were made with it stay."""
    with backend() as api:
        dataset = api.dataset(symbol, timeframe).dataset
        if not yes:
            click.confirm(
                f"Remove the {dataset.bars:,} bars of {symbol} {timeframe}?", abort=True, err=True
            )
        api.remove_dataset(symbol, timeframe)
    say(f"removed {symbol} {timeframe}")


def _short(option: str, text: str | None) -> str | None:
    if text is not None and len(text) > 64:
        raise UsageError(f"the value of {option} is too long", hint="See docs/data.md.")
    return text


def _readable(name: str) -> str:
    """A file's name without what a terminal or the API would stumble over."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", "?", name)[:255]
