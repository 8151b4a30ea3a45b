"""`ktrdr strategies check` needs nothing but the file."""

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


def fault_of(result: Result) -> KtrdrError:
    assert isinstance(result.exception, KtrdrError)
    return result.exception


def test_a_good_file_is_said_to_be_good_without_a_backend(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(GOOD)
    done = call("check", str(path))
    assert done.exit_code == 0
    assert "is good: mine, with 1 parameter\n" in done.stderr
    assert not done.stdout


def test_as_json_it_says_what_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(GOOD)
    found = json.loads(call("check", "--json", str(path)).stdout)
    assert (found["name"], found["built_in"]) == ("mine", False)
    assert found["parameters"][0]["maximum"] == 2


@pytest.mark.parametrize("command", ["check", "put"])
def test_a_wrong_file_is_refused_with_its_lines_and_sent_nowhere(tmp_path, command: str) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(GOOD.replace("close", "clsoe"))
    fault = fault_of(call(command, str(path)))
    assert isinstance(fault, InvalidParameters)
    assert fault.exit_code == 2
    assert "mine.yml:4: entry is invalid: clsoe is not defined" in fault.message


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_bytes(b"\xff\xfe")
    fault = fault_of(call("check", str(path)))
    assert isinstance(fault, UsageError)
    assert "cannot be read" in fault.message
