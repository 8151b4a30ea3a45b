"""Environment of the runtime benchmarks: a PostgreSQL whose commits wait for the disk."""

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
from tests.integration.postgres import Server, running_server
from tests.integration.processes import Site, site

BARS = Path(__file__).parents[2] / "tests" / "data" / "sp500_2007_2009.csv"
# The smallest complete backtest: one fold, one pair of windows.
SMALLEST_BACKTEST = {
    "symbol": "SP500",
    "folds": 1,
    "train_bars": 400,
    "fast_windows": [5],
    "slow_windows": [20],
}


@dataclass(frozen=True)
class Ground:
    """Environment of the measurements."""

    server: Server

    @contextmanager
    def database(self) -> Iterator[Settings]:
        """Provide a new database with the current schema."""
        with self.server.database() as settings:
            asyncio.run(migrate(settings))
            yield settings

    @contextmanager
    def site(self) -> Iterator[Site]:
        """Provide a new database and a shared directory; stop their processes at the end."""
        with (
            self.database() as settings,
            tempfile.TemporaryDirectory(prefix="ktrdr-bench-") as directory,
            site(settings, Path(directory)) as found,
        ):
            yield found


@contextmanager
def prepared_ground() -> Iterator[Ground]:
    """Provide a database server for this run."""
    with running_server(durable=True) as server:
        yield Ground(server)


def bring_bars(client: BackendClient) -> None:
    """Import the bars that all operations use."""
    with BARS.open("rb") as file:
        client.import_dataset(file, "SP500", "1d")
