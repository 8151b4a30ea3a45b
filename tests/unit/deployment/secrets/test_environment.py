from __future__ import annotations

import pytest

from ktrdr.deployment.secrets.environment import EnvironmentSource
from ktrdr.errors import SecretsError
from ktrdr.secret import Secret


def test_each_variable_is_a_field_and_others_are_none() -> None:
    environment = {"KTRDR_SECRET_DB_PASSWORD": "a b'c", "KTRDR_SECRET_JWT_SECRET": "", "PATH": "/"}
    assert EnvironmentSource(environment, {}).fetch() == {
        "db_password": Secret("a b'c"),
        "jwt_secret": Secret(""),
    }


def test_what_was_fetched_is_in_the_environment_of_no_later_child() -> None:
    environment = {"KTRDR_SECRET_DB_PASSWORD": "x", "PATH": "/"}
    EnvironmentSource(environment, {}).fetch()
    assert environment == {"PATH": "/"}


def test_whoever_asks_again_gets_the_same() -> None:
    environment, taken = {"KTRDR_SECRET_DB_PASSWORD": "x"}, dict[str, Secret]()
    first = EnvironmentSource(environment, taken).fetch()
    assert EnvironmentSource(environment, taken).fetch() == first


def test_no_variable_at_all_is_an_error_that_names_one() -> None:
    with pytest.raises(SecretsError, match=r"no variable KTRDR_SECRET_… is set") as caught:
        EnvironmentSource({}, {}).fetch()
    assert "KTRDR_SECRET_DB_PASSWORD" in str(caught.value.hint)
