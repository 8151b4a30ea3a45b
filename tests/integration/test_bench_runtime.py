"""`make bench-runtime` runs and says what it should; how fast anything is, is not tested here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.runtime.__main__ import MEASUREMENTS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_every_measurement_gives_a_table_and_says_whether_its_goals_are_met(
    name: str, tmp_path: Path
) -> None:
    written = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.runtime", "--quick", "--only", name, "--json", written],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert written.exists(), done.stderr
    found = json.loads(written.read_text())["measurements"][name]
    assert found["rows"]
    assert all(len(row) == len(found["columns"]) for row in found["rows"])
    assert done.returncode == int(not all(goal["met"] for goal in found["goals"]))
    assert found["title"] in done.stdout
