"""Tests that the commands of the README work."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from lab import demo
from lab.config import ROOT
from tests.e2e.conftest import Lab

BLOCKS = re.findall(
    r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
)


def shell(script: str, env: dict[str, str]) -> str:
    """Run a block of commands, which must succeed; return the output."""
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


def test_the_readme_contains_three_blocks_of_commands() -> None:
    assert [block.splitlines()[0] for block in BLOCKS[:2]] == ["make demo", "make test"]
    assert len(BLOCKS) == 3
    assert "ktrdr deploy core all\n" in BLOCKS[2]


@pytest.mark.timeout(900)
def test_make_demo_produces_results_in_an_empty_lab(bare_lab: Lab) -> None:
    bare_lab.wipe()
    said = shell(BLOCKS[0], dict(os.environ))
    for words in ("The lab is ready", "Report", "Try next", "targets up"):
        assert words in said
    reports = re.findall(r"\.lab\S*/results/\S+/report\.html", said)
    assert reports
    assert all((ROOT / report).is_file() for report in reports)


def test_make_test_runs_the_end_to_end_tests() -> None:
    listed = subprocess.run(
        ["make", "--dry-run", "--always-make", *BLOCKS[1].split()[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "scripts/e2e" in listed


@pytest.mark.timeout(900)
def test_the_commands_for_a_homelab_work(bare_lab: Lab, tmp_path: Path) -> None:
    """Install the CLI as in the README, on a laptop that has only Python."""
    env = {**demo.lab_environment(), "HOME": str(tmp_path), "PIP_QUIET": "2"}
    # Nobody is there to say yes.
    commands = BLOCKS[2].replace("ktrdr host prepare all", "ktrdr host prepare all --yes")
    assert "--yes" in commands
    try:
        said = shell(commands, env)
    finally:
        # Later tests reach more ports than the peers of a host may.
        bare_lab.good("host", "prepare", "all", "--undo", "--yes")
    assert "load the firewall rules" in said
    assert "Nothing was changed or restarted" in said
    assert "completed 100%" in said
    installed = {path.name for path in (tmp_path / ".ktrdr/lib").rglob("site-packages/*")}
    assert "click" in installed
    assert not {"fastapi", "sklearn", "pandas", "psycopg", "opentelemetry"} & installed
