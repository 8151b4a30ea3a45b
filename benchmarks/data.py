"""Benchmark of importing, reading and listing market data: `make bench-data`; ROWS=N sets the size.

Prints the seconds and the peak memory of a separate process for each task; asserts nothing.
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
DESCRIPTIONS = {
    "nothing": "load the modules of an import",
    "import": "import",
    "sort": "import, with --repair sort of rows in reverse order",
    "read": "read all bars",
    "day": "read one day",
    "by-hand": "read all bars of a file that was put there by hand",
    "list": "list 200 datasets",
}


def main(rows: int) -> None:
    """Measure every task in a separate process."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        # In a separate process, because child processes inherit the peak memory of their parent.
        subprocess.run(
            [sys.executable, "-m", "benchmarks.data", "write", temporary, str(rows)], check=True
        )
        size_mb = (directory / "up.csv").stat().st_size / 1e6
        print(f"{rows:,} one-minute bars, {size_mb:.0f} MB of CSV")
        for task in TASKS:
            command = [sys.executable, "-m", "benchmarks.data", task, temporary]
            seconds, memory = subprocess.run(
                command, check=True, capture_output=True, text=True
            ).stdout.split()
            print(f"{float(seconds):8.3f} s {float(memory):6.0f} MB  {DESCRIPTIONS[task]}")


def write_files(directory: Path, rows: int) -> None:
    """Write a random walk in both orders, and create a shared directory for the tasks."""
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
    (directory / "up.csv").write_text(header + "".join(lines))
    (directory / "down.csv").write_text(header + "".join(reversed(lines)))
    (directory / "data").mkdir()


def run(task: str, directory: Path) -> float:
    """Run a task; return its duration in seconds, without the import of its libraries."""
    root = directory / "data"
    if task in ("nothing", "import", "sort", "list"):
        return run_without_pandas(task, directory, root)
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


def run_without_pandas(task: str, directory: Path, root: Path) -> float:
    """Run a task that needs no numerical library."""
    from ktrdr.marketdata.catalogue import list_datasets
    from ktrdr.marketdata.importing import import_csv
    from ktrdr.schemas.data import ImportRequest, Repair

    if task == "list":
        for number in range(200):
            with (directory / "small.csv").open("w+b") as file:
                file.write(b"date,open,high,low,close\n2020-01-01,1,2,1,2\n")
                file.seek(0)
                import_csv(file, root, f"S{number}", "1d")
    began = time.perf_counter()
    if task == "import":
        with (directory / "up.csv").open("rb") as file:
            import_csv(file, root, "UP", "1m")
    elif task == "sort":
        with (directory / "down.csv").open("rb") as file:
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
