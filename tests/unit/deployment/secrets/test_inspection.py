from __future__ import annotations

import json

from ktrdr.deployment.secrets.inspection import Finding, inspect
from ktrdr.deployment.secrets.source import FIELDS
from ktrdr.secret import Secret

STRONG = {
    "db_username": Secret("ktrdr"),
    "db_password": Secret("vF3kQz81LmXw0PdT"),
    "jwt_secret": Secret("c9Rk2VtYh7WqLm4ZxNs8BpDf1GjQw5Ea"),
    "grafana_password": Secret("J7hTq2ZrVn5KxWm9"),
    "ghcr_token": Secret("ghp_x"),
}


def finding(field: str, changes: dict[str, Secret]) -> Finding:
    return next(each for each in inspect({**STRONG, **changes}) if each.field == field)


def test_every_field_is_looked_at_and_good_ones_have_no_remarks() -> None:
    found = inspect(STRONG)
    assert [each.field for each in found] == list(FIELDS)
    assert not [each for each in found if each.remarks or not each.usable or not each.long_enough]
    assert {each.field: each.strength for each in found} == {
        "db_username": "not measured",
        "db_password": "strong",
        "jwt_secret": "strong",
        "grafana_password": "strong",
        "ghcr_token": "not measured",
    }


def test_a_missing_field_is_neither_there_nor_usable() -> None:
    found = next(each for each in inspect({}) if each.field == "db_password")
    assert (found.present, found.usable, found.long_enough) == (False, False, False)
    assert found.remarks == ("is missing",)


def test_a_field_can_be_long_enough_and_weak() -> None:
    found = finding("db_password", {"db_password": Secret("passwordpassword")})
    assert (found.present, found.long_enough, found.usable, found.strength) == (
        True,
        True,
        True,
        "weak",
    )
    assert "holds a word that is tried first" in found.remarks


def test_a_key_has_to_be_stronger_than_a_password() -> None:
    good_password = STRONG["db_password"].reveal()
    found = finding("jwt_secret", {"jwt_secret": Secret(good_password + good_password)})
    assert (found.usable, found.strength) == (True, "weak")


def test_the_same_value_in_two_fields_is_weak_in_both() -> None:
    same = {"grafana_password": STRONG["db_password"]}
    assert finding("grafana_password", same).remarks == ("is the same as db_password",)
    assert finding("db_password", same).remarks == ("is the same as grafana_password",)


def test_no_finding_holds_a_value_or_its_length() -> None:
    short = {"db_password": Secret("hunter2")}
    text = json.dumps([each.model_dump() for each in inspect({**STRONG, **short})])
    for secret in (*STRONG.values(), *short.values()):
        assert secret.reveal() == "ktrdr" or secret.reveal() not in text
    assert finding("db_password", short).remarks[0] == "is shorter than 12 characters"
