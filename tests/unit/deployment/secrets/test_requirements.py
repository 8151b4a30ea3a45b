from __future__ import annotations

import re
from pathlib import Path

import pytest

from ktrdr.deployment.secrets.requirements import MINIMUM_LENGTHS, check
from ktrdr.errors import SecretsError
from ktrdr.secret import Secret

GOOD = {
    "db_username": Secret("k"),
    "db_password": Secret("p" * 12),
    "jwt_secret": Secret("j" * 32),
    "grafana_password": Secret("g" * 12),
    "ghcr_token": Secret("ghp_"),
}


def complaint(changes: dict[str, Secret], wanted: list[str] | None = None) -> str:
    with pytest.raises(SecretsError) as caught:
        check(GOOD | changes, wanted or list(GOOD))
    assert caught.value.hint
    return str(caught.value)


def test_secrets_of_just_the_minimum_length_are_taken() -> None:
    check(GOOD, GOOD)


@pytest.mark.parametrize("label", [label for label in GOOD if label != "db_username"])
def test_a_secret_one_character_short_of_the_minimum_is_refused(label: str) -> None:
    minimum = MINIMUM_LENGTHS.get(label, 4)
    short = Secret("x" * (minimum - 1))
    assert f"{label} is shorter than {minimum} characters" in complaint({label: short})


@pytest.mark.parametrize("value", ["", " ", "\t\n"])
def test_a_blank_secret_is_refused_as_empty(value: str) -> None:
    assert "db_username is empty" in complaint({"db_username": Secret(value)})


def test_a_value_that_no_environment_variable_can_hold_is_refused() -> None:
    text = complaint(
        {"db_password": Secret("p" * 12 + "\0"), "grafana_password": Secret("g" * 12 + "\udcff")}
    )
    assert "db_password holds a NUL character" in text
    assert "grafana_password holds half a character" in text


def test_every_complaint_stands_in_one_message_that_gives_no_value_away() -> None:
    with pytest.raises(SecretsError) as caught:
        check({"jwt_secret": Secret("hunter22"), "db_password": Secret("")}, GOOD)
    assert str(caught.value) == (
        "the vault's secrets cannot be used: db_username is missing; db_password is empty; "
        "jwt_secret is shorter than 32 characters; grafana_password is missing; "
        "ghcr_token is missing"
    )


def test_fields_that_are_not_wanted_are_not_looked_at() -> None:
    check({**GOOD, "jwt_secret": Secret("")}, ["db_username", "db_password"])


def test_the_documented_least_lengths_are_those_that_are_checked() -> None:
    page = Path("docs/secrets.md").read_text(encoding="utf-8")
    documented = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| (\d+) \|", page, re.MULTILINE))
    assert documented == {label: str(MINIMUM_LENGTHS.get(label, 4)) for label in GOOD}


@pytest.mark.parametrize("character", ['"', "$", "'", "\\", "`", "\n", "\t"])
def test_a_user_name_that_postgresql_does_not_take_is_refused(character: str) -> None:
    text = complaint({"db_username": Secret(f"ktr{character}dr")})
    assert "db_username holds a character that PostgreSQL does not take" in text


def test_a_user_name_is_no_longer_than_postgresql_keeps_it() -> None:
    check(GOOD | {"db_username": Secret("é" * 31)}, GOOD)
    assert "db_username is longer than 63 bytes" in complaint({"db_username": Secret("é" * 32)})


def test_a_user_name_does_not_begin_as_postgresqls_own_do() -> None:
    assert "db_username begins with pg_" in complaint({"db_username": Secret("pg_ktrdr")})


def test_any_other_character_is_taken_everywhere() -> None:
    odd = Secret("%#=&;|<>(){}*?!~ é日本@:/")
    check(GOOD | {"db_username": odd, "db_password": Secret("'\"$`\\ \t\nlong enough")}, GOOD)
