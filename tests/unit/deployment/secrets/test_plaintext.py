"""Parsing of decrypted documents, whose errors never quote them."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ktrdr.deployment.secrets.plaintext import parse_fields
from ktrdr.errors import SecretsError
from ktrdr.secret import Secret
from tests.thoroughness import examples

FILE = "deploy/secrets.age"
FIELDS = ("db_username", "db_password", "jwt_secret")


def parse(text: str) -> Mapping[str, Secret]:
    return parse_fields(Secret(text), f"the content of {FILE}", FIELDS)


def error(text: str) -> str:
    with pytest.raises(SecretsError) as caught:
        parse(text)
    assert caught.value.hint
    assert caught.value.__context__ is None
    # Without the frames of this file, which have the text.
    frames = traceback.StackSummary.extract(
        list(traceback.walk_tb(caught.tb))[2:], capture_locals=True
    )
    assert "hunter2" not in "".join([*frames.format(), str(caught.value)])
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "db_password: s3cret\njwt_secret: 'é日本 \"'\n",
        '{"db_password": "s3cret", "jwt_secret": "é日本 \\""}',
        '{\n\t"db_password": "s3cret",\n\t"jwt_secret": "é日本 \\""\n}\n',
        '---\n# ours\ndb_password:   s3cret\njwt_secret: >-\n  é日本\n  "\n',
    ],
)
def test_yaml_and_json_give_the_fields_by_name(text: str) -> None:
    assert parse(text) == {
        "db_password": Secret("s3cret"),
        "jwt_secret": Secret('é日本 "'),
    }


@pytest.mark.parametrize("text", ["db_password:\n", "db_password: ''\n", '{"db_password": null}'])
def test_a_field_without_a_value_is_there_and_empty(text: str) -> None:
    assert parse(text) == {"db_password": Secret("")}


@pytest.mark.parametrize(
    "value", ["123456789012", "1.5", "yes", "2026-11-24", "[hunter22]", "{a: hunter22}"]
)
def test_a_field_that_is_not_text_is_refused_instead_of_read_as_something_else(value: str) -> None:
    assert error(f"db_password: {value}\n") == (
        f"the content of {FILE} cannot be used: db_password is not text"
    )


def test_entries_of_other_names_may_be_anything() -> None:
    text = "notes: [a, b]\nrotated: 2026-11-24\njwt_secret: s3cret\n? [x]\n: y\n"
    assert parse(text) == {"jwt_secret": Secret("s3cret"), "": Secret("y")}


@pytest.mark.parametrize(
    "text",
    [
        "db_password: hunter22\njwt_secret: 3\ndb_password: hunter23\n",
        '{"db_password": "hunter22", "jwt_secret": 3, "db_password": "hunter23"}',
    ],
)
def test_one_message_names_all_duplicate_and_unusable_fields(text: str) -> None:
    assert error(text) == (
        f"the content of {FILE} cannot be used: db_password occurs 2 times; jwt_secret is not text"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("# hunter22\n", "is empty"),
        ("hunter22", "is not a mapping of keys to values"),
        ("- hunter22", "is not a mapping of keys to values"),
        ('["hunter22"]', "is not a mapping of keys to values"),
        ("a: b\nhunter22", "is neither YAML nor JSON (line 2)"),
        ("db_password: @hunter22", "is neither YAML nor JSON (line 1)"),
        ("db_password: *hunter22", "is neither YAML nor JSON (line 1)"),
        ('{"db_password": "hunter22"', "is neither YAML nor JSON (line 1)"),
        ("hunter22\x00", "is neither YAML nor JSON (line 1)"),
        ('a: "\\UFFFFFFFF hunter22"', "is neither YAML nor JSON (line 1)"),
        ("[" * 1000 + "hunter22", "is neither YAML nor JSON (line 1)"),
    ],
)
def test_a_document_without_a_mapping_is_refused_and_not_quoted(text: str, reason: str) -> None:
    assert error(text) == f"the content of {FILE} {reason}"


values = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60)
names = st.sampled_from(["db_username", "db_password", "jwt_secret", "other"])


@settings(deadline=None)
@given(st.dictionaries(names, values, min_size=1))
def test_any_text_survives_being_written_as_json_or_yaml(fields: dict[str, str]) -> None:
    wanted = {name: Secret(value) for name, value in fields.items()}
    assert parse(json.dumps(fields)) == wanted
    # What YAML cannot hold as it is, it writes with escapes, in quotes.
    quoted = yaml.safe_dump(fields, default_style='"', allow_unicode=False)
    assert parse(quoted) == wanted


documents = st.text(max_size=80) | st.from_regex(
    r"(db_password|jwt_secret): ?[\[\{\]\}:,\-&\*!%@`\"'\\ a-zU0-9]*\n"
    r"((db_password|ghcr_token): ?[\[\{\]\}:,\-&\*!<>|\"'\\ a-z0-9]*\n)?",
    fullmatch=True,
)


@settings(max_examples=examples(300), deadline=None)
@given(documents)
@example('a: "\\UFFFFFFFF"')
@example("a: !!int ''")
@example("%YAML 1." + "9" * 5000 + "\n---\na: b")
def test_any_text_gives_fields_or_a_sentence(text: str) -> None:
    try:
        found = parse(text)
    except SecretsError as fault:
        said = fault.message
    else:
        said = repr(found)
    assert said.startswith((f"the content of {FILE} ", "{"))
