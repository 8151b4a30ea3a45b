"""`ktrdr data`: market data in the shared directory."""

from __future__ import annotations

from pathlib import Path

import click

from ktrdr.cli.connection import backend
from ktrdr.cli.render import json_option, say, write_json, write_table


@click.group()
def data() -> None:
    """Bring in and list market data."""


@data.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--symbol", required=True, help="What the bars are of, such as SP500.")
@click.option("--timeframe", default="1d", show_default=True, help="The length of a bar.")
@json_option
def import_file(file: Path, symbol: str, timeframe: str, as_json: bool) -> None:
    """Import a CSV file of OHLCV bars, plain or gzip.

    Every row is checked; a file with a fault is refused whole, with the lines named.
    """
    with backend() as api, file.open("rb") as content:
        dataset = api.import_dataset(content, symbol, timeframe)
    if as_json:
        write_json(dataset)
    else:
        say(
            f"imported {dataset.bars:,} bars of {dataset.symbol} {dataset.timeframe}, "
            f"{dataset.first:%Y-%m-%d} to {dataset.last:%Y-%m-%d}"
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
        ("symbol", "timeframe", ">bars", "first", "last", ">size"),
        [
            (
                each.symbol,
                each.timeframe,
                f"{each.bars:,}",
                f"{each.first:%Y-%m-%d}",
                f"{each.last:%Y-%m-%d}",
                f"{each.size_bytes / 1e6:.1f} MB",
            )
            for each in datasets
        ],
        empty="There is no data yet; bring some in with `ktrdr data import FILE --symbol NAME`.",
    )
