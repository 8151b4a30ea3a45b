from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ktrdr.cli.deploy.init import init
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.homelab.inventory_file import load_inventory
from ktrdr.errors import ConfigurationError, UsageError


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    url = "git@github.com:Ann-Example/ktrdr.git"
    subprocess.run(["git", "-C", str(tmp_path), "remote", "add", "origin", url], check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KTRDR_INVENTORY", raising=False)
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(init, arguments)


def written(checkout: Path) -> Inventory:
    return load_inventory(checkout / "deploy/inventory.yml")


@pytest.mark.parametrize("arguments", [(), ("--yes",), ("-y",)])
def test_without_options_the_defaults_and_the_checkouts_owner_are_filled_in(
    checkout: Path, arguments: tuple[str, ...]
) -> None:
    result = call(*arguments)
    assert result.exit_code == 0, result.stderr
    inventory = written(checkout)
    assert inventory.core.host == "backend.ktrdr.home.mynerd.place"
    assert list(inventory.workers) == ["B", "C"]
    assert inventory.image == "ghcr.io/ann-example/ktrdr-backend"
    assert inventory.nfs_image == "ghcr.io/ann-example/ktrdr-nfs-server"
    assert inventory.registry_user == "ann-example"
    assert inventory.secrets.source == "1password"
    assert not result.stdout
    assert "Created deploy/inventory.yml." in result.stderr
    assert "ktrdr secrets check" in result.stderr
    assert "ktrdr deploy check" in result.stderr


def test_options_are_filled_in(checkout: Path) -> None:
    result = call(
        *("--domain", "lab.example", "--core-host", "10.0.0.1", "--node", "gpu", "--node", "D"),
        *("--image", "reg.example/me/ktrdr", "--registry-user", "robot", "--secret-source", "sops"),
    )
    assert result.exit_code == 0, result.stderr
    inventory = written(checkout)
    assert (inventory.domain, inventory.core.host) == ("lab.example", "10.0.0.1")
    assert {name: node.host for name, node in inventory.workers.items()} == {
        "gpu": "workers-gpu.lab.example",
        "D": "workers-d.lab.example",
    }
    assert inventory.image == "reg.example/me/ktrdr"
    assert inventory.nfs_image == "reg.example/me/ktrdr-nfs-server"
    assert inventory.registry_user == "robot"
    assert inventory.secrets.file == str(checkout / "deploy/secrets.sops.yaml")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--domain", "a b"), "domain is not a host name: 'a b'"),
        (("--core-host", "-x"), "core.host is not a host name: '-x'"),
        (("--node", "B", "--node", "B"), "workers.B is defined twice"),
        (("--node", "B C"), "workers.B C is not a name of letters, digits and inner hyphens"),
        (("--image", "Image:tag"), "image is not an image name without a tag: 'Image:tag'"),
        (("--registry-user", " "), "registry_user is not one line of text: ' '"),
    ],
)
def test_an_invalid_option_is_refused_and_nothing_is_written(
    checkout: Path, arguments: tuple[str, ...], reason: str
) -> None:
    result = call(*arguments)
    assert isinstance(result.exception, ConfigurationError)
    assert reason in str(result.exception)
    assert not (checkout / "deploy").exists()


def test_an_existing_inventory_is_never_overwritten(checkout: Path) -> None:
    path = checkout / "deploy/inventory.yml"
    path.parent.mkdir()
    path.write_text("workers: {B: }\n")
    result = call("--yes")
    assert isinstance(result.exception, UsageError)
    assert str(result.exception) == "deploy/inventory.yml already exists"
    assert path.read_text() == "workers: {B: }\n"


def test_another_file_can_be_named(checkout: Path) -> None:
    assert call("--inventory", "other/mine.yml").exit_code == 0
    assert load_inventory(checkout / "other/mine.yml").workers
    (checkout / "file").write_text("")
    result = call("--inventory", "file/mine.yml")
    assert isinstance(result.exception, ConfigurationError)
    assert "file/mine.yml cannot be written" in str(result.exception)
