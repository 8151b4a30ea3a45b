"""`ktrdr data` against a real backend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ktrdr.tokens import Role
from tests.integration.processes import Runtime, ServerProcess, token

ROWS = "date;open;high;low;close\n2020-01-20;1;2;1;2\n2020-01-21;1;2;1;2\n"


class Cli:
    """Command line with a token, in a directory."""

    def __init__(self, backend: ServerProcess, directory: Path) -> None:
        self._directory = directory
        self._env = {
            **os.environ,
            "KTRDR_API_URL": backend.url,
            "KTRDR_TOKEN": token(Role.OPERATOR).reveal(),
            "KTRDR_CONFIG": str(directory / "none.toml"),
        }

    def __call__(self, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from ktrdr.cli.cli import main; main()", "data"]
        return subprocess.run(
            [*command, *arguments],
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            cwd=self._directory,
            env=self._env,
        )

    def file(self, name: str, content: str) -> str:
        """Write a file to import and return its name."""
        (self._directory / name).write_text(content)
        return name


@pytest.fixture
def cli(backend: ServerProcess, tmp_path: Path) -> Cli:
    return Cli(backend, tmp_path)


def test_a_dataset_is_checked_imported_shown_and_removed(runtime: Runtime, cli: Cli) -> None:
    file = cli.file("x.csv", f"{ROWS}2020-01-21;1;2;1;1.5\n2020-02-10;1;2;1;2\n")
    refused = cli("import", file, "--symbol", "X")
    assert refused.returncode == 2
    assert "error: the file is not usable: line 4: 2020-01-21T00:00:00Z appears" in refused.stderr
    assert "--repair drop-duplicates" in refused.stderr
    checked = cli("import", file, "--symbol", "X", "--check")
    assert checked.returncode == 2
    assert "line 4: 2020-01-21T00:00:00Z appears twice, with different values" in checked.stdout
    assert "x.csv would be refused as X 1d" in checked.stderr
    assert [path.name for path in (runtime.shared / "data").iterdir()] == [".lock"]
    arguments = ("import", file, "--symbol", "X", "--repair", "drop-duplicates")
    dry = cli(*arguments, "--check")
    assert (dry.returncode, dry.stderr) == (0, "would import 3 bars; nothing was written\n")
    done = cli(*arguments, "--repair", "sort")
    assert done.returncode == 0, done.stderr
    assert "imported X 1d: 3 bars, 2020-01-20 to 2020-02-10" in done.stderr
    assert "with different values than in line 3 (drop-duplicates)" in done.stdout
    assert "13 missing before line 5" in done.stdout
    listed = json.loads(cli("list", "--json").stdout)
    shown = cli("show", "X").stdout
    assert listed[0]["data_hash"] in shown
    assert "x.csv, by test operator" in shown
    assert "drop-duplicates" in shown
    no = cli("remove", "X", "1d", typed="n\n")
    assert "Remove the 3 bars of X 1d?" in no.stderr
    assert no.returncode == 130
    assert len(json.loads(cli("list", "--json").stdout)) == 1
    assert cli("remove", "X", "1d", "--yes").returncode == 0
    assert json.loads(cli("list", "--json").stdout) == []


def test_every_option_reaches_the_backend(runtime: Runtime, cli: Cli) -> None:
    text = "date|time|open|high|low|close\n2/1/2020|9:30|1,5|2|1|2\n3/1/2020|9:30|1,5|2|1|2\n"
    done = cli(
        *("import", cli.file("x.txt", text), "--symbol", "X", "--timeframe", "30m", "--json"),
        *("--delimiter", "pipe", "--decimal", "comma", "--date-format", "dmy"),
        *("--time-zone", "America/New_York", "--gaps", "report"),
    )
    report = json.loads(done.stdout)
    assert report["dataset"]["first"] == "2020-01-02T14:30:00Z"
    assert (runtime.shared / "data/X/30m.csv").read_text().splitlines()[1] == (
        "2020-01-02T14:30:00Z,1.5,2.0,1.0,2.0,0.0"
    )
    refused = cli("import", "x.txt", "--symbol", "X", "--timeframe", "30m", "--gaps", "refuse")
    assert "may be M/D or D/M" in refused.stderr
    assert refused.returncode == 2


def test_invalid_names_and_unknown_symbols_are_errors(cli: Cli) -> None:
    cli("import", cli.file("x.csv", ROWS), "--symbol", "SPX")
    unknown = cli("show", "SPY")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "there is no data for SPY" in unknown.stderr
    assert "Did you mean SPX?" in unknown.stderr
    for arguments in (("show", "../x"), ("remove", "..", "1d", "--yes"), ("show", "SPX", "../1d")):
        refused = cli(*arguments)
        assert "cannot be the name of a symbol" in refused.stderr
        assert refused.returncode == 2
    assert (
        "is not the length of a bar"
        in cli("import", "x.csv", *("--symbol", "A"), *("--timeframe", "day")).stderr
    )
