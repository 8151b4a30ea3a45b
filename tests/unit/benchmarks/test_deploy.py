"""Tests of the deploy benchmarks: inputs of the contenders, breakdown of the time."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from benchmarks.deploy.breakdown import phases
from benchmarks.deploy.contenders import RIVALS
from benchmarks.deploy.inputs import write_inputs
from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.homelab.inventory_file import load_inventory
from ktrdr.deployment.releases.checkout import Checkout
from lab.config import ROOT

TAG = "sha-be0c4a2"


@pytest.fixture(scope="module")
def written_inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("inputs")
    return write_inputs(directory, TAG).directory


def test_contenders_receive_the_settings_that_ktrdr_passes_to_compose(written_inputs: Path) -> None:
    inventory = load_inventory(
        ROOT / "deploy/inventory.yml",
        shown_as="inventory",
        environ={"KTRDR_INVENTORY_CORE_NFS": "external"},
    )
    product = Homelab(inventory)
    config = product.configure(product.hosts[0], Checkout(ROOT).load_release("core", TAG))
    described = json.loads((written_inputs / "inputs.json").read_text())["core"]
    assert described["settings"].items() >= dict(config.settings).items()
    assert described["secrets"].keys() == set(config.secrets)
    shown = subprocess.run(
        ["sh", "-c", f". {written_inputs}/core/settings && env"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert {f"{name}={value}" for name, value in config.settings} <= set(shown)


def test_contenders_receive_the_files_that_ktrdr_transfers(written_inputs: Path) -> None:
    for key, target in (("core", "core"), ("B", "workers")):
        with tarfile.open(written_inputs / key / "files.tgz") as archive:
            release = Checkout(ROOT).load_release(target, TAG)
            assert set(archive.getnames()) == set(release.files)


def test_the_plain_ssh_script_is_valid_shell() -> None:
    subprocess.run(["sh", "-n", str(RIVALS / "plain.sh")], check=True)


def test_connecting_does_not_count_as_part_of_the_first_script() -> None:
    spans = [
        {"what": "all", "host": "", "began": 10.0, "ended": 14.0},
        {"what": "script", "host": "b", "began": 11.0, "ended": 13.0},
        {"what": "connect", "host": "b", "began": 11.0, "ended": 12.5},
    ]
    assert dict(phases(spans)) == {
        ("all", ""): (0.0, 4.0),
        ("connect", "b"): (1.0, 1.5),
        ("script 1", "b"): (2.5, 0.5),
        ("print the result", ""): (3.0, 1.0),
    }
