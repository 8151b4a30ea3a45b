from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ktrdr.cli.commands.secrets import secrets
from ktrdr.errors import SecretsError

STRONG = {
    "DB_USERNAME": "ktrdr",
    "DB_PASSWORD": "vF3kQz81LmXw0PdT",
    "JWT_SECRET": "c9Rk2VtYh7WqLm4ZxNs8BpDf1GjQw5Ea",
    "GRAFANA_PASSWORD": "J7hTq2ZrVn5KxWm9",
    "GHCR_TOKEN": "ghp_x",
}


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inventory = tmp_path / "inventory.yml"
    inventory.write_text("secrets: {source: environment}\n")
    monkeypatch.setenv("KTRDR_INVENTORY", str(inventory))
    monkeypatch.setattr("ktrdr.deployment.secrets.environment._TAKEN", {})


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch):
    def call(*arguments: str, **changes: str) -> Result:
        for name, value in {**STRONG, **changes}.items():
            monkeypatch.setenv(f"KTRDR_SECRET_{name}", value)
        result = CliRunner().invoke(secrets, ["check", *arguments])
        for value in {**STRONG, **changes}.values():
            assert value == "ktrdr" or not value or value not in result.output
        return result

    return call


def test_good_fields_are_listed_without_a_warning(check) -> None:
    result = check()
    assert result.exit_code == 0
    assert [line.split()[:3] for line in result.stdout.splitlines()[1:]] == [
        [name.lower(), "yes", "yes"] for name in STRONG
    ]
    assert "warning" not in result.stderr
    assert "The secrets come from the variables KTRDR_SECRET_…." in result.stderr


def test_a_weak_field_is_a_warning_and_no_error(check) -> None:
    result = check(DB_PASSWORD="password2026password")
    assert result.exit_code == 0
    assert "warning: weak secrets: db_password." in result.stderr
    assert "is easy to guess" in result.stdout


def test_every_unusable_field_is_in_the_table_and_in_one_error_of_code_4(check) -> None:
    result = check(JWT_SECRET="h2-x", GHCR_TOKEN="")
    assert isinstance(result.exception, SecretsError)
    assert result.exception.exit_code == 4
    assert str(result.exception) == (
        "the vault's secrets cannot be used: "
        "jwt_secret is shorter than 32 characters; ghcr_token is empty"
    )
    assert len(result.stdout.splitlines()) == 6


def test_json_has_the_same_facts(check) -> None:
    result = check("--json", GRAFANA_PASSWORD="grafana-grafana")
    found = {report["field"]: report for report in json.loads(result.stdout)}
    assert found["grafana_password"] == {
        "field": "grafana_password",
        "present": True,
        "long_enough": True,
        "usable": True,
        "strength": "weak",
        "remarks": ["is easy to guess"],
    }
    assert found["ghcr_token"]["strength"] == "not measured"


FURTHER = "secrets.fields={broker_api_key: {variable: BROKER_API_KEY, stacks: [workers]}}"


def test_a_missing_further_field_is_an_error(check) -> None:
    missing = check("--set", FURTHER)
    assert str(missing.exception) == (
        "the vault's secrets cannot be used: broker_api_key is missing"
    )


def test_a_line_end_of_a_further_field_is_a_remark(check) -> None:
    found = check("--set", FURTHER, BROKER_API_KEY="k3y-of-the-broker\n")
    assert found.exit_code == 0
    assert "ends with a line end" in found.stdout


def test_a_fine_grained_token_is_refused_with_the_kind_that_ghcr_takes(check) -> None:
    result = check(GHCR_TOKEN="github_pat_11ABCDEFG_x")
    assert isinstance(result.exception, SecretsError)
    assert "fine-grained token (github_pat_…), which GHCR refuses" in str(result.exception)
    assert "only a classic personal access token" in str(result.exception.hint)
    assert "fine-grained" in result.stdout


def test_a_token_with_a_line_end_is_refused(check) -> None:
    result = check(GHCR_TOKEN="ghp_0123456789\n")
    assert "ghcr_token contains a line end, which no token does" in str(result.exception)


def test_the_fields_may_come_from_a_program(tmp_path: Path) -> None:
    program = tmp_path / "get secrets"
    document = json.dumps({name.lower(): value for name, value in STRONG.items()})
    program.write_text(f"#!/bin/sh\necho '{document}'\n")
    program.chmod(0o755)
    (tmp_path / "inventory.yml").write_text(
        "secrets: {source: command, command: ['./get secrets', all]}\n"
    )
    result = CliRunner().invoke(secrets, ["check"])
    assert result.exit_code == 0, result.output
    assert f"The secrets come from the command {program}." in result.stderr


def test_an_override_checks_another_source(check, tmp_path: Path) -> None:
    none = tmp_path / "none.age"
    result = check("--set", "secrets.source=age", "--set", f"secrets.file={none}")
    assert str(result.exception) == f"the secrets' file {none} does not exist"
