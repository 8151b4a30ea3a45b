"""What the rivals of a deploy are given, and how the time of one is taken apart."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from benchmarks.deploy import kit
from benchmarks.deploy.breakdown import phases
from benchmarks.deploy.contenders import RIVALS
from ktrdr.deployment.homelab import host_config as sites
from ktrdr.deployment.homelab.inventory_file import load
from ktrdr.deployment.releases.checkout import Checkout
from lab.config import ROOT

TAG = "sha-be0c4a2"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("kit")
    return kit.make(directory, TAG).directory


def test_rivals_are_told_what_ktrdr_tells_compose(made: Path) -> None:
    inventory = load(ROOT / "deploy/inventory.yml", shown_as="inventory", environ={})
    site = sites.core(inventory, Checkout(ROOT).release("core", TAG))
    described = json.loads((made / "kit.json").read_text())["core"]
    assert described["settings"].items() >= dict(site.settings).items()
    assert described["secrets"].keys() == set(site.secrets)
    shown = subprocess.run(
        ["sh", "-c", f". {made}/core/settings && env"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert {f"{name}={value}" for name, value in site.settings} <= set(shown)


def test_rivals_bring_the_files_that_ktrdr_brings(made: Path) -> None:
    for key, target in (("core", "core"), ("B", "workers")):
        with tarfile.open(made / key / "files.tgz") as archive:
            release = Checkout(ROOT).release(target, TAG)  # type: ignore[arg-type]  # one of both
            assert set(archive.getnames()) == set(release.files)


def test_the_hand_written_script_is_one_that_any_shell_takes() -> None:
    subprocess.run(["sh", "-n", str(RIVALS / "plain.sh")], check=True)


def test_connecting_is_no_part_of_the_script_that_waited_for_it() -> None:
    spans = [
        {"what": "all", "host": "", "began": 10.0, "ended": 14.0},
        {"what": "script", "host": "b", "began": 11.0, "ended": 13.0},
        {"what": "connect", "host": "b", "began": 11.0, "ended": 12.5},
    ]
    assert dict(phases(spans)) == {
        ("all", ""): (0.0, 4.0),
        ("connect", "b"): (1.0, 1.5),
        ("script 1", "b"): (2.5, 0.5),
        ("shows the result, ends", ""): (3.0, 1.0),
    }
