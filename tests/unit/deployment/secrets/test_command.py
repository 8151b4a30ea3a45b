"""Secrets that a program of the operator prints as JSON."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktrdr.deployment.secrets.command import CommandSource
from ktrdr.errors import SecretsError
from ktrdr.secret import Secret
from tests.thoroughness import examples

FIELDS = ("db_password", "broker_api_key")
MakeSource = Callable[..., CommandSource]


@pytest.fixture
def source(tmp_path: Path) -> MakeSource:
    """Make a source of a program that prints given bytes."""

    def make(
        stdout: str | bytes = "", stderr: str = "", code: int = 0, **environment: str
    ) -> CommandSource:
        raw = stdout if isinstance(stdout, bytes) else stdout.encode()
        (tmp_path / "out").write_bytes(raw)
        (tmp_path / "err").write_text(stderr)
        script = f'cat "{tmp_path}/out"; cat "{tmp_path}/err" >&2; exit {code}'
        return CommandSource(
            ["sh", "-c", script, "bw", "$HOME `id`"],
            fields=FIELDS,
            environment={**os.environ, **environment},
        )

    return make


def fetch_error(source: CommandSource) -> SecretsError:
    with pytest.raises(SecretsError) as caught:
        source.fetch()
    assert caught.value.hint
    assert caught.value.exit_code == 4
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    assert "hunter22" not in "".join(shown)
    return caught.value


def test_a_json_object_of_texts_gives_the_fields(source: MakeSource) -> None:
    document = {"db_password": "é日本 \n'\"", "broker_api_key": "k3y", "number": 3, "nested": {}}
    assert source(json.dumps(document)).fetch() == {
        "db_password": Secret("é日本 \n'\""),
        "broker_api_key": Secret("k3y"),
    }


def test_a_byte_order_mark_before_the_object_is_ignored(source: MakeSource) -> None:
    assert source('\ufeff{"db_password": "x"}\r\n').fetch() == {"db_password": Secret("x")}


def test_no_shell_interprets_the_arguments(tmp_path: Path) -> None:
    program = tmp_path / "print arguments"
    program.write_text('#!/bin/sh\nprintf \'{"a": "%s"}\' "$*"\n')
    program.chmod(0o755)
    assert CommandSource([str(program), "$HOME", "`id`", "; x"]).fetch() == {
        "a": Secret("$HOME `id` ; x")
    }


@pytest.mark.parametrize(
    "printed", ["", "hunter22", "db_password: hunter22", '["hunter22"]', '"hunter22"', "3", "{,}"]
)
def test_anything_but_an_object_is_refused_without_quoting_it(
    source: MakeSource, printed: str
) -> None:
    assert str(fetch_error(source(printed))) == "the output of sh is not a JSON object"


@pytest.mark.parametrize(
    ("printed", "problem"),
    [
        ('{"db_password": 3}', "db_password is not text"),
        ('{"broker_api_key": ["hunter22"]}', "broker_api_key is not text"),
        ('{"db_password": "hunter22", "db_password": "b"}', "db_password occurs 2 times"),
    ],
)
def test_a_field_that_is_not_one_text_is_refused(
    source: MakeSource, printed: str, problem: str
) -> None:
    assert str(fetch_error(source(printed))) == f"the output of sh cannot be used: {problem}"


@pytest.mark.parametrize(
    "words",
    [
        "Vault is locked.",
        "You are not logged in.",
        "Error: ktrdr/homelab is not in the password store.",
        "Error reading secret/ktrdr: Errors:\n\n* permission denied",
        "dial tcp: lookup vault.lan: no such host",
    ],
)
def test_the_last_line_of_a_failed_program_is_the_reason(source: MakeSource, words: str) -> None:
    error = fetch_error(source(stderr=f"{words}\n", code=1))
    reason = words.splitlines()[-1].rstrip(".")
    assert str(error) == f"sh failed with exit code 1: {reason}"
    assert "by hand" in str(error.hint)


def test_a_message_is_quoted_without_secrets_and_without_control_characters(
    source: MakeSource,
) -> None:
    error = fetch_error(
        source(
            stdout="hunter22\n",
            stderr="first\n\x1b[31modd hunter22, t0ken-of-session, DB_PASSWORD=abcdef\n",
            code=3,
            BW_SESSION="t0ken-of-session",
        )
    )
    assert str(error) == "sh failed with exit code 3: [31modd •••, •••, DB_PASSWORD=•••"


def test_a_long_message_is_cut(source: MakeSource) -> None:
    assert len(str(fetch_error(source(stderr="odd " * 500, code=1)))) < 250


def test_a_missing_program_is_named_with_a_remedy() -> None:
    error = fetch_error(CommandSource(["no-such-program-here"]))
    assert "no-such-program-here is not installed on this machine" in str(error)
    assert "secrets.command" in str(error.hint)


texts = st.text(max_size=8)
documents = st.one_of(
    st.binary(max_size=60),
    st.dictionaries(st.sampled_from(FIELDS), texts | st.integers() | st.none(), max_size=3).map(
        lambda fields: json.dumps(fields).encode()
    ),
)


@settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(printed=documents)
def test_any_output_gives_fields_or_a_sentence(source: MakeSource, printed: bytes) -> None:
    try:
        said = str(source(printed).fetch())
    except SecretsError as error:
        said = error.message
    assert said.startswith(("{", "the output of sh "))
