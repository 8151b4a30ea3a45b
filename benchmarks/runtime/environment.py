"""Environment of the benchmarks: a durable PostgreSQL server, and fresh databases."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ktrdr.client.backend import BackendClient
from ktrdr.database.migrate import migrate
from ktrdr.settings import Settings
from tests.integration.postgres import PostgresServer, running_server
from tests.integration.processes import Runtime, open_runtime

BARS = Path(__file__).parents[2] / "tests" / "data" / "sp500_2007_2009.csv"
# Smallest complete backtest: one fold, one pair of windows.
SMALLEST_BACKTEST = {
    "symbol": "SP500",
    "folds": 1,
    "train_bars": 400,
    "fast_windows": [5],
    "slow_windows": [20],
}


@dataclass(frozen=True)
class BenchmarkEnvironment:
    """Server that measurements run on."""

    server: PostgresServer

    @contextmanager
    def database(self) -> Iterator[Settings]:
        """Provide a fresh database with the present schema."""
        with self.server.database() as settings:
            asyncio.run(migrate(settings))
            yield settings

    @contextmanager
    def open_runtime(self) -> Iterator[Runtime]:
        """Provide a fresh runtime, whose processes end with the block."""
        with (
            self.database() as settings,
            tempfile.TemporaryDirectory(prefix="ktrdr-bench-") as directory,
            open_runtime(settings, Path(directory)) as runtime,
        ):
            yield runtime


@contextmanager
def prepare_environment() -> Iterator[BenchmarkEnvironment]:
    """Run a database server during the block."""
    with running_server(durable=True) as server:
        yield BenchmarkEnvironment(server)


def import_bars(client: BackendClient) -> None:
    """Import the bars that all operations here use."""
    with BARS.open("rb") as file:
        client.import_dataset(file, "SP500", "1d")
