"""What measurements stand on: one PostgreSQL that waits for the disk, a fresh database for each."""

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
# The least work that is a whole backtest: one fold, one pair of windows.
SMALLEST_BACKTEST = {
    "symbol": "SP500",
    "folds": 1,
    "train_bars": 400,
    "fast_windows": [5],
    "slow_windows": [20],
}


@dataclass(frozen=True)
class Ground:
    """Where measurements are made."""

    server: Server

    @contextmanager
    def database(self) -> Iterator[Settings]:
        """A fresh database with the present schema."""
        with self.server.database() as settings:
            asyncio.run(migrate(settings))
            yield settings

    @contextmanager
    def site(self) -> Iterator[Site]:
        """A fresh database and a shared directory, for processes that end with the block."""
        with (
            self.database() as settings,
            tempfile.TemporaryDirectory(prefix="ktrdr-bench-") as directory,
            site(settings, Path(directory)) as found,
        ):
            yield found


@contextmanager
def prepared_ground() -> Iterator[Ground]:
    """A database server of this run's own."""
    with running_server(durable=True) as server:
        yield Ground(server)


def bring_bars(client: BackendClient) -> None:
    """Imports the bars that all work here is done on."""
    with BARS.open("rb") as file:
        client.import_dataset(file, "SP500", "1d")
