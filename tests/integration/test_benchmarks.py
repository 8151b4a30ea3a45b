"""Tests that every benchmark runs; they assert no times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.deploy.__main__ import MEASUREMENTS as OF_DEPLOYS
from benchmarks.runtime.__main__ import MEASUREMENTS as OF_THE_RUNTIME

ROOT = Path(__file__).parents[2]
# The other deploy benchmarks need the lab, and half a gigabyte of tools.
WITHOUT_LAB = [("deploy", name) for name in OF_DEPLOYS if name in ("start-up", "crowd")]


@pytest.mark.parametrize(
    ("benchmark", "name"), [*(("runtime", name) for name in OF_THE_RUNTIME), *WITHOUT_LAB]
)
def test_every_measurement_prints_a_table_and_its_goals(
    benchmark: str, name: str, tmp_path: Path
) -> None:
    written = tmp_path / "figures.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", f"benchmarks.{benchmark}", "--quick", "--only", name),
            *("--json", written),
        ],
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
