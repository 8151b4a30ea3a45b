"""Wheel that users install: it contains everything that a deploy sends to hosts."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = directory.glob("*.whl")
    return built


def test_every_script_is_in_the_wheel(wheel: Path) -> None:
    files = [
        file
        for directory in ("scripts", "homelab/scripts")
        for file in (ROOT / "ktrdr/deployment" / directory).rglob("*")
        if file.suffix in (".sh", ".py", ".sql", ".pl")
    ]
    assert len(files) > 50
    with zipfile.ZipFile(wheel) as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
    for file in files:
        assert packed[str(file.relative_to(ROOT))] == file.read_bytes()


def test_scripts_are_rendered_from_an_installed_wheel(wheel: Path, tmp_path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    program = (
        "from ktrdr.deployment.scripts.script import Script, render_for_display\n"
        "print(render_for_display(Script('scripts/show_lock.sh', ('/opt/x',))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    subprocess.run(["sh"], input=done.stdout, text=True, check=True)
