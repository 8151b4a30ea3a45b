from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr.deployment.homelab.inventory import FIELDS
from ktrdr.deployment.homelab.secret_values import (
    MINIMUM_LENGTHS,
    SecretFieldReport,
    inspect_field,
    require_usable_fields,
)
from ktrdr.errors import SecretsError
from ktrdr.secret import Secret

SHORTEST = {
    "db_username": Secret("k"),
    "db_password": Secret("p" * 12),
    "jwt_secret": Secret("j" * 32),
    "grafana_password": Secret("g" * 12),
    "ghcr_token": Secret("ghp_"),
}
STRONG = {
    "db_username": Secret("ktrdr"),
    "db_password": Secret("vF3kQz81LmXw0PdT"),
    "jwt_secret": Secret("c9Rk2VtYh7WqLm4ZxNs8BpDf1GjQw5Ea"),
    "grafana_password": Secret("J7hTq2ZrVn5KxWm9"),
    "ghcr_token": Secret("ghp_x"),
}


def error(changes: dict[str, Secret]) -> str:
    with pytest.raises(SecretsError) as caught:
        require_usable_fields(SHORTEST | changes, FIELDS)
    assert caught.value.hint
    return str(caught.value)


def inspect_fields(
    fields: Mapping[str, Secret], names: Sequence[str] = FIELDS
) -> list[SecretFieldReport]:
    return [inspect_field(name, fields) for name in names]


def report(name: str, **changes: str) -> SecretFieldReport:
    fields = STRONG | {field: Secret(value) for field, value in changes.items()}
    return next(report for report in inspect_fields(fields) if report.field == name)


def test_secrets_of_the_minimum_length_are_usable() -> None:
    require_usable_fields(SHORTEST, FIELDS)


@pytest.mark.parametrize("name", [name for name in FIELDS if name != "db_username"])
def test_a_secret_one_character_below_the_minimum_is_refused(name: str) -> None:
    minimum = MINIMUM_LENGTHS.get(name, 4)
    short = Secret("x" * (minimum - 1))
    assert f"{name} is shorter than {minimum} characters" in error({name: short})


@pytest.mark.parametrize("value", ["", " ", "\t\n"])
def test_a_blank_secret_is_refused_as_empty(value: str) -> None:
    assert "db_username is empty" in error({"db_username": Secret(value)})


def test_a_value_that_no_environment_variable_can_contain_is_refused() -> None:
    text = error(
        {"db_password": Secret("p" * 12 + "\0"), "grafana_password": Secret("g" * 12 + "\udcff")}
    )
    assert "db_password contains a NUL character" in text
    assert "grafana_password contains half a character" in text


def test_one_message_names_all_problems_and_no_value() -> None:
    with pytest.raises(SecretsError) as caught:
        require_usable_fields({"jwt_secret": Secret("hunter22"), "db_password": Secret("")}, FIELDS)
    assert str(caught.value) == (
        "the vault's secrets cannot be used: db_username is missing; db_password is empty; "
        "jwt_secret is shorter than 32 characters; grafana_password is missing; "
        "ghcr_token is missing"
    )


def test_fields_that_a_deploy_does_not_need_are_not_checked() -> None:
    require_usable_fields({**SHORTEST, "jwt_secret": Secret("")}, ["db_username", "db_password"])


def test_the_documented_minimum_lengths_are_checked() -> None:
    page = Path("docs/secrets.md").read_text(encoding="utf-8")
    documented = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| (\d+) \|", page, re.MULTILINE))
    assert documented == {name: str(MINIMUM_LENGTHS.get(name, 4)) for name in FIELDS}


@pytest.mark.parametrize("character", ['"', "$", "'", "\\", "`", "\n", "\t"])
def test_a_user_name_that_postgresql_refuses_is_refused(character: str) -> None:
    text = error({"db_username": Secret(f"ktr{character}dr")})
    assert "db_username contains a character that PostgreSQL refuses" in text


def test_a_user_name_that_postgresql_truncates_is_refused() -> None:
    require_usable_fields(SHORTEST | {"db_username": Secret("é" * 31)}, FIELDS)
    assert "db_username is longer than 63 bytes" in error({"db_username": Secret("é" * 32)})


def test_a_user_name_that_postgresql_reserves_is_refused() -> None:
    assert "db_username begins with pg_" in error({"db_username": Secret("pg_ktrdr")})


def test_all_other_characters_are_accepted() -> None:
    odd = Secret("%#=&;|<>(){}*?!~ é日本@:/")
    long = Secret("'\"$`\\ \t\nlong enough")
    require_usable_fields(SHORTEST | {"db_username": odd, "db_password": long}, FIELDS)


GHP = "ghp_" + "a1B2" * 9


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        (f"{GHP}\n", "a line end"),
        (f"{GHP}\r", "a line end"),
        (f"\t{GHP} \n", "a line end"),
        (f"{GHP[:20]}\n{GHP[20:]}", "a line end"),
        (f" {GHP}", "white space"),
        (f"\ufeff{GHP}", "white space"),
        (f"{GHP}\u200b", "white space"),
        (f"{GHP}\xa0", "white space"),
    ],
)
def test_a_token_with_white_space_that_no_token_has_is_refused_by_its_kind(
    token: str, problem: str
) -> None:
    assert error({"ghcr_token": Secret(token)}).endswith(
        f"ghcr_token contains {problem}, which no token does"
    )


def test_a_fine_grained_token_is_refused_because_ghcr_refuses_it() -> None:
    with pytest.raises(SecretsError) as caught:
        require_usable_fields(SHORTEST | {"ghcr_token": Secret("github_pat_11ABC_x")}, FIELDS)
    assert "ghcr_token is a fine-grained token (github_pat_…), which GHCR refuses" in str(
        caught.value
    )
    assert "classic personal access token (ghp_…) with the scope read:packages" in str(
        caught.value.hint
    )


def test_only_problems_of_the_token_explain_which_token_is_needed() -> None:
    with pytest.raises(SecretsError) as caught:
        require_usable_fields(SHORTEST | {"db_password": Secret("")}, FIELDS)
    assert "classic" not in str(caught.value.hint)


@pytest.mark.parametrize("name", ["db_password", "jwt_secret", "grafana_password"])
def test_white_space_around_another_secret_is_a_remark(name: str) -> None:
    found = report(name, **{name: f"\ufeff{STRONG[name].reveal()}\r\n"})
    assert (found.usable, found.strength) == (True, "strong")
    assert found.remarks == ("begins or ends with a line end",)


@given(st.text(st.sampled_from(" \t\r\n\xa0\ufeff\u200b"), max_size=4), st.booleans())
def test_a_token_is_usable_only_without_white_space_around_it(blanks: str, is_front: bool) -> None:
    token = f"{blanks}{GHP}" if is_front else f"{GHP}{blanks}"
    found = next(each for each in inspect_fields({"ghcr_token": Secret(token)}, ["ghcr_token"]))
    assert found.usable is (blanks == "")


def test_a_value_that_no_variable_can_hold_is_refused() -> None:
    require_usable_fields({"x": Secret("x" * 120_000)}, ["x"])
    assert "db_password is longer than 120000 bytes" in error({"db_password": Secret("é" * 60_001)})


def test_a_further_field_has_the_rules_of_a_secret_without_a_length_of_its_own() -> None:
    for value, problem in (("abc", "is shorter than 4 characters"), (" ", "is empty")):
        with pytest.raises(SecretsError, match=f"broker_api_key {problem}"):
            require_usable_fields({"broker_api_key": Secret(value)}, ["broker_api_key"])
    (found,) = inspect_fields({"broker_api_key": Secret("k3y!\n")}, ["broker_api_key"])
    assert (found.usable, found.strength, found.remarks) == (
        True,
        "not measured",
        ("begins or ends with a line end",),
    )


def test_strong_fields_have_no_remarks() -> None:
    reports = inspect_fields(STRONG)
    assert [report.field for report in reports] == list(FIELDS)
    assert not [report for report in reports if report.remarks or not report.usable]
    assert all(report.long_enough for report in reports)
    assert {report.field: report.strength for report in reports} == {
        "db_username": "not measured",
        "db_password": "strong",
        "jwt_secret": "strong",
        "grafana_password": "strong",
        "ghcr_token": "not measured",
    }


def test_a_missing_field_is_neither_present_nor_usable() -> None:
    missing = inspect_fields({})[FIELDS.index("db_password")]
    assert (missing.present, missing.usable, missing.long_enough) == (False, False, False)
    assert (missing.strength, missing.remarks) == ("not measured", ("is missing",))


@pytest.mark.parametrize(
    ("value", "remark"),
    [
        ("passwordpassword", 'Repeats like "abcabcabc"'),
        ("password2026password", "is easy to guess"),
        ("correctcorrectcorrect", 'Repeats like "abcabcabc"'),
        ("abcdefghijklmnopqrstuvwxyz", 'Sequences like "abc" or "6543" are easy to guess'),
        ("11111111111111111111111111111111", 'Repeats like "aaa" are easy to guess'),
        ("changeme-changeme", "is easy to guess"),
        ("grafana-grafana", "is easy to guess"),
        ("ktrdr-homelab", "is easy to guess"),
        ("somebody-somebody", "is easy to guess"),
        ("development-only-password", "is published for development"),
        ("development-only-jwt-secret-0123456789", "is published for development"),
    ],
)
def test_a_value_that_is_easy_to_guess_is_usable_and_weak(value: str, remark: str) -> None:
    weak = report("db_password", db_password=value, db_username="somebody")
    assert (weak.long_enough, weak.usable, weak.strength) == (
        True,
        True,
        "weak",
    )
    assert remark in weak.remarks[0]


def test_a_key_has_to_be_stronger_than_a_password() -> None:
    twice = STRONG["db_password"].reveal() * 2
    assert report("grafana_password", grafana_password=twice).strength == "strong"
    assert report("jwt_secret", jwt_secret=twice).strength == "weak"


def test_the_same_value_in_two_fields_is_weak_in_both() -> None:
    same = {"grafana_password": STRONG["db_password"].reveal()}
    assert report("grafana_password", **same).remarks == ("is the same as db_password",)
    assert report("db_password", **same).remarks == ("is the same as grafana_password",)


def test_generated_values_are_strong() -> None:
    for _ in range(5):
        for password in (secrets.token_urlsafe(9), secrets.token_hex(8)):
            assert report("db_password", db_password=password).strength == "strong"
        for key in (secrets.token_urlsafe(24), secrets.token_hex(16), secrets.token_urlsafe(48)):
            assert report("jwt_secret", jwt_secret=key).strength == "strong"


def test_no_report_contains_a_value_or_its_length() -> None:
    short = {"db_password": "hunter2"}
    fields = STRONG | {"db_password": Secret(short["db_password"])}
    text = json.dumps([report.model_dump() for report in inspect_fields(fields)])
    for secret in fields.values():
        assert secret.reveal() == "ktrdr" or secret.reveal() not in text
    assert report("db_password", **short).remarks == ("is shorter than 12 characters",)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=100))
def test_all_texts_can_be_measured(value: str) -> None:
    fields = {name: Secret(value + name[0] * 32) for name in ("db_password", "jwt_secret")}
    assert {report.field for report in inspect_fields(fields)} == set(FIELDS)


def test_long_values_are_measured_quickly() -> None:
    began = time.perf_counter()
    for value in ("a" * 4000, "ab1" * 1500, "p@ssw0rd" * 500, secrets.token_hex(2000)):
        report("db_password", db_password=value)
    assert time.perf_counter() - began < 3
