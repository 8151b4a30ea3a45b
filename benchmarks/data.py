"""Measures importing, reading and listing market data: `make bench-data`, ROWS=N for another size.

Prints seconds and the most memory that a process of its own took; asserts nothing.
"""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

ROWS = 1_000_000
BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
TASKS = ("nothing", "import", "sort", "read", "day", "by-hand", "list")
WORDS = {
    "nothing": "load what an import needs",
    "import": "import",
    "sort": "import, sorting rows that are in reverse order",
    "read": "read all bars",
    "day": "read one day",
    "by-hand": "read all bars of a file that was put there by hand",
    "list": "list 200 datasets",
}


def main(rows: int) -> None:
    """Measures every task in a process of its own."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        # In a process of its own, as what begins another lends it the most memory it ever took.
        subprocess.run(
            [sys.executable, "-m", "benchmarks.data", "write", directory, str(rows)], check=True
        )
        print(f"{rows:,} bars of a minute, {(place / 'up.csv').stat().st_size / 1e6:.0f} MB of CSV")
        for task in TASKS:
            command = [sys.executable, "-m", "benchmarks.data", task, directory]
            seconds, memory = subprocess.run(
                command, check=True, capture_output=True, text=True
            ).stdout.split()
            print(f"{float(seconds):8.3f} s {float(memory):6.0f} MB  {WORDS[task]}")


def write_files(place: Path, rows: int) -> None:
    """A random walk, in both orders, and a shared directory for the tasks."""
    generator, price = random.Random(1), 100.0
    lines = []
    for number in range(rows):
        opened, price = price, max(price + generator.gauss(0, 0.01), 1.0)
        high, low = max(opened, price) + 0.01, min(opened, price) - 0.01
        moment = BEGIN + timedelta(minutes=number)
        volume = generator.randrange(1000)
        lines.append(
            f"{moment:%Y-%m-%d %H:%M:%S},{opened:.5f},{high:.5f},{low:.5f},{price:.5f},{volume}\n"
        )
    header = "Date,Open,High,Low,Close,Volume\n"
    (place / "up.csv").write_text(header + "".join(lines))
    (place / "down.csv").write_text(header + "".join(reversed(lines)))
    (place / "data").mkdir()


def run(task: str, place: Path) -> float:
    """Does one task; gives its seconds, without the loading of its libraries."""
    root = place / "data"
    if task in ("nothing", "import", "sort", "list"):
        return run_of_the_backend(task, place, root)
    from ktrdr.marketdata.bars import read_bars

    symbol = "UP"
    if task == "by-hand":
        symbol = "HAND"
        (root / symbol).mkdir()
        (root / symbol / "1m.csv").write_bytes((root / "UP" / "1m.csv").read_bytes())
    day = (date(2020, 1, 5), date(2020, 1, 6)) if task == "day" else ()
    began = time.perf_counter()
    read_bars(root, symbol, "1m", *day)
    return time.perf_counter() - began


def run_of_the_backend(task: str, place: Path, root: Path) -> float:
    """A task that needs no numerical library."""
    from ktrdr.marketdata.catalogue import list_datasets
    from ktrdr.marketdata.importing import import_csv
    from ktrdr.schemas.data import ImportRequest, Repair

    if task == "list":
        for number in range(200):
            with (place / "small.csv").open("w+b") as file:
                file.write(b"date,open,high,low,close\n2020-01-01,1,2,1,2\n")
                file.seek(0)
                import_csv(file, root, f"S{number}", "1d")
    began = time.perf_counter()
    if task == "import":
        with (place / "up.csv").open("rb") as file:
            import_csv(file, root, "UP", "1m")
    elif task == "sort":
        with (place / "down.csv").open("rb") as file:
            import_csv(file, root, "DOWN", "1m", ImportRequest(repair=frozenset({Repair.SORT})))
    elif task == "list":
        list_datasets(root)
    return time.perf_counter() - began


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        write_files(Path(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1:2] and sys.argv[1] in TASKS:
        passed = run(sys.argv[1], Path(sys.argv[2]))
        print(passed, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else ROWS)
