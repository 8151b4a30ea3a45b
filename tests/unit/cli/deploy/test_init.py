from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ktrdr.cli.deploy import dependencies as world
from ktrdr.cli.deploy.init import init
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.homelab.inventory_file import load
from ktrdr.errors import ConfigurationError, UsageError


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    url = "git@github.com:Ann-Example/ktrdr.git"
    subprocess.run(["git", "-C", str(tmp_path), "remote", "add", "origin", url], check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KTRDR_INVENTORY", raising=False)
    monkeypatch.setattr(world, "somebody_is_there", lambda: True)
    return tmp_path


def call(*arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(init, arguments, input=typed)


def written(checkout: Path) -> Inventory:
    return load(checkout / "deploy/inventory.yml")


def test_answers_become_an_inventory(checkout: Path) -> None:
    typed = "lab.example\n\nB, gpu\n\n2\n10.0.0.7\n\n\nrobot\nage\nmine.age\n"
    result = call(typed=typed)
    assert result.exit_code == 0, result.stderr
    inventory = written(checkout)
    assert inventory.domain == "lab.example"
    assert inventory.core.host == "backend.lab.example"
    assert {name: (node.host, node.scale) for name, node in inventory.workers.items()} == {
        "B": ("workers-b.lab.example", 2),
        "gpu": ("10.0.0.7", 1),
    }
    assert inventory.image == "ghcr.io/ann-example/ktrdr-backend"
    assert inventory.nfs_image == "ghcr.io/ann-example/ktrdr-nfs-server"
    assert inventory.registry_user == "robot"
    assert (inventory.secrets.source, inventory.secrets.file) == (
        "age",
        str(checkout / "deploy/mine.age"),
    )
    assert not result.stdout
    assert "ktrdr secrets check" in result.stderr
    assert "ktrdr deploy check" in result.stderr


def test_a_wrong_answer_is_told_and_asked_again(checkout: Path) -> None:
    typed = "a b\nlab.example\n-x\n\nB B\nB C\n\n9\nmany\n1\nworkers-b.lab.example\n\n\n"
    result = call(typed=typed + "Image:tag\n\n\nkeepass\n\n\n\n")
    assert result.exit_code == 0, result.stderr
    for words in (
        "domain is not a host name: 'a b'",
        "core.host is not a host name: '-x'",
        "workers.B is defined twice",
        "workers.B.scale must be at most 3, not 9",
        "scale must be a whole number, not 'many'",
        "workers-b.lab.example is already the host of workers.B.host",
        "image is not an image's name without a tag: 'Image:tag'",
        "secrets.source must be '1password', 'age', 'sops' or 'environment', not 'keepass'",
    ):
        assert words in result.stderr
    assert written(checkout).secrets.vault == "KTRDR Homelab Secrets"


def test_without_questions_the_defaults_and_options_are_taken(checkout: Path) -> None:
    result = call("--yes", "--domain", "lab.example", "--node", "D", "--secret-source", "sops")
    assert result.exit_code == 0, result.stderr
    assert list(written(checkout).workers) == ["D"]
    assert written(checkout).secrets.file == str(checkout / "deploy/secrets.sops.yaml")


def test_a_wrong_option_is_refused(checkout: Path) -> None:
    result = call("--yes", "--domain", "a b")
    assert isinstance(result.exception, ConfigurationError)
    assert "domain is not a host name: 'a b'" in str(result.exception)
    assert not (checkout / "deploy/inventory.yml").exists()


def test_an_inventory_that_is_there_is_never_lost_unasked(checkout: Path) -> None:
    path = checkout / "deploy/inventory.yml"
    path.parent.mkdir()
    path.write_text("workers: {B: }\n")
    result = call("--yes")
    assert str(result.exception) == "deploy/inventory.yml is there already"
    assert isinstance(call(typed="n\n").exception, UsageError)
    # Ctrl-D in the middle
    call(typed="y\nlab.example\n")
    assert path.read_text() == "workers: {B: }\n"
    assert call(typed="y\nlab.example\n" + "\n" * 20).exit_code == 0
    assert written(checkout).domain == "lab.example"
    assert [each.name for each in path.parent.iterdir()] == ["inventory.yml"]


def test_where_nobody_can_answer_nothing_is_written(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "somebody_is_there", lambda: False)
    result = call()
    assert isinstance(result.exception, UsageError)
    assert not (checkout / "deploy").exists()


def test_another_file_can_be_named(checkout: Path) -> None:
    assert call("--yes", "--inventory", "other/mine.yml").exit_code == 0
    assert load(checkout / "other/mine.yml").workers
    (checkout / "file").write_text("")
    result = call("--yes", "--inventory", "file/mine.yml")
    assert isinstance(result.exception, ConfigurationError)


def test_no_worker_node_is_an_answer_too(checkout: Path) -> None:
    assert call(typed="\n\n-\n" + "\n" * 9).exit_code == 0
    assert written(checkout).workers == {}
