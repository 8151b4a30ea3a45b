"""Concurrent and killed imports never leave or show an incomplete dataset."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ktrdr.errors import HostNotReady
from ktrdr.marketdata.bars import read_bars
from ktrdr.marketdata.catalogue import delete_dataset, list_datasets
from ktrdr.marketdata.importing import import_csv
from ktrdr.marketdata.store import HEADER, remove_import_orphans
from tests.unit.marketdata.files import csv_table, import_text

DAYS = [f"2020-01-{day:02}" for day in range(1, 29)]


def priced(price: int) -> str:
    """Return bars of one price, which identifies the import."""
    return csv_table(*(f"{day},{price},{price},{price},{price},1" for day in DAYS))


def hidden(root: Path) -> list[Path]:
    return list(root.glob("*/.*"))


class InterruptedFile(io.BytesIO):
    """A file that calls a function while it is read."""

    def __init__(self, content: str, between) -> None:
        super().__init__(content.encode())
        self._between = between

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > 10:
            between, self._between = self._between, lambda: None
            between()
        return super().read(size)

    read1 = read


def test_an_import_during_another_does_not_disturb_it(tmp_path: Path) -> None:
    report = import_csv(
        InterruptedFile(priced(10), lambda: import_text(priced(20), tmp_path)),
        tmp_path,
        "SPX",
        "1d",
    )
    (dataset,) = list_datasets(tmp_path)
    assert dataset == report.dataset
    assert set(read_bars(tmp_path, "SPX", "1d").close) == {10}
    assert len(hidden(tmp_path)) == 2


def test_many_simultaneous_imports_leave_one_complete(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        reports = list(pool.map(lambda price: import_text(priced(price), tmp_path), range(1, 25)))
    (dataset,) = list_datasets(tmp_path)
    assert dataset.state == "imported"
    assert dataset in [report.dataset for report in reports]
    assert len(set(read_bars(tmp_path, "SPX", "1d").close)) == 1
    assert len(hidden(tmp_path)) == 2


def test_a_reader_gets_one_import_or_the_other_and_never_a_mixture(tmp_path: Path) -> None:
    hashes = {}
    for price in (1, 2):
        dataset = import_text(priced(price), tmp_path).dataset
        assert dataset is not None
        hashes[dataset.data_hash] = price
    with ThreadPoolExecutor(3) as pool:
        writing = [pool.submit(import_text, priced(1 + n % 2), tmp_path) for n in range(30)]
        for _ in range(60):
            bars = read_bars(tmp_path, "SPX", "1d")
            assert set(bars.close) == {hashes[bars.data_hash]}
        for future in writing:
            future.result()


def test_an_open_dataset_stays_readable_while_it_is_replaced_and_deleted(
    tmp_path: Path,
) -> None:
    import_text(priced(1), tmp_path)
    with (tmp_path / "SPX" / "1d.csv").open() as file:
        assert file.readline() == f"{HEADER}\n"
        import_text(priced(2), tmp_path)
        delete_dataset(tmp_path, "SPX", "1d")
        assert all(line.endswith(",1.0,1.0,1.0,1.0,1.0\n") for line in file)


KILLED = """
import sys
from pathlib import Path
from ktrdr.marketdata.importing import import_csv
class Slow:
    lines = iter([b"date,open,high,low,close\\n"] + [b"2020-01-01,1,2,1,2\\n"] * 3)
    def read(self, size=-1):
        if data := next(self.lines, b""):
            return data
        print("reading", flush=True)
        sys.stdin.read()
    read1 = read
    def seek(self, *to): self.lines = iter([b"date,open,high,low,close\\n"])
    readable = lambda self: True
    writable = seekable = lambda self: False
    closed = False
    def flush(self): pass
    def close(self): pass
import_csv(Slow(), Path(sys.argv[1]), "SPX", "1d")
"""


def test_the_files_of_a_killed_import_are_removed_by_the_next_import(
    tmp_path: Path,
) -> None:
    before = import_text(priced(1), tmp_path).dataset
    killed = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"reading\n"
        parts = list(tmp_path.glob("*/*.part"))
        assert len(parts) == 2
        # The import is still running.
        assert remove_import_orphans(tmp_path) == []
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    assert list_datasets(tmp_path) == [before]
    assert all(path.exists() for path in parts)
    import_text(priced(2), tmp_path, symbol="OTHER")
    assert not list(tmp_path.glob("*/*.part"))
    assert list_datasets(tmp_path)[1] == before


def test_a_missing_directory_has_no_abandoned_imports(tmp_path: Path) -> None:
    assert remove_import_orphans(tmp_path / "none") == []


FULL = """
import resource, signal, sys
from pathlib import Path
from ktrdr.errors import HostNotReady
from tests.unit.marketdata.files import import_text
from tests.unit.marketdata.test_store import priced
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
try:
    import_text(priced(2), Path(sys.argv[1]))
except HostNotReady as exc:
    print(exc.message)
"""


def test_a_full_disk_is_reported_and_leaves_the_dataset_unchanged(tmp_path: Path) -> None:
    before = import_text(priced(1), tmp_path).dataset
    files = sorted(tmp_path.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert "1d.csv cannot be written (File too large)" in done.stdout
    assert list_datasets(tmp_path) == [before]
    assert sorted(tmp_path.rglob("*")) == files


def test_a_temporary_file_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with pytest.raises(HostNotReady, match="cannot be written"):
        import_text(priced(1), tmp_path)
