"""`ktrdr strategies check` without a backend."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ktrdr.cli.commands.strategies import strategies
from ktrdr.errors import InvalidParameters, KtrdrError, UsageError

GOOD = "name: mine\nparameters:\n  a: {default: 1, minimum: 0, maximum: 2}\n"
GOOD += "entry: close > a\nexit: never\n"


@pytest.fixture(autouse=True)
def no_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KTRDR_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("KTRDR_API_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("KTRDR_TOKEN", raising=False)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(strategies, arguments)


def error_of(result: Result) -> KtrdrError:
    assert isinstance(result.exception, KtrdrError)
    return result.exception


def test_a_valid_file_is_reported_as_valid_without_a_backend(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(GOOD)
    done = call("check", str(path))
    assert done.exit_code == 0
    assert "is valid: mine, with 1 parameter\n" in done.stderr
    assert not done.stdout


def test_json_output_describes_the_strategy(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(GOOD)
    document = json.loads(call("check", "--json", str(path)).stdout)
    assert (document["name"], document["built_in"]) == ("mine", False)
    assert document["parameters"][0]["maximum"] == 2


@pytest.mark.parametrize("command", ["check", "put"])
def test_an_invalid_file_is_refused_with_its_lines_and_not_uploaded(tmp_path, command: str) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(GOOD.replace("close", "clsoe"))
    error = error_of(call(command, str(path)))
    assert isinstance(error, InvalidParameters)
    assert error.exit_code == 2
    assert "mine.yml:4: entry is invalid: clsoe is not defined" in error.message


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_bytes(b"\xff\xfe")
    error = error_of(call("check", str(path)))
    assert isinstance(error, UsageError)
    assert "cannot be read" in error.message
