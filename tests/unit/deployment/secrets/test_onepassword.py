"""The source 1Password, with a small stand-in for `op`."""

from __future__ import annotations

import json
import os
import sys
import textwrap
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktrdr.deployment.secrets.onepassword import OnePassword, _parse_item
from ktrdr.errors import SecretsError
from ktrdr.secret import Secret

VAULT = "KTRDR Homelab Secrets"
ITEM = "ktrdr-homelab-core"

StandIn = Callable[..., OnePassword]


@pytest.fixture
def stand_in(tmp_path: Path) -> StandIn:
    """Provide an `op` that prints given texts and records its call."""

    def make(
        stdout: str = "",
        stderr: str = "",
        code: int = 0,
        *,
        environment: dict[str, str] | None = None,
        timeout_s: float = 20,
        body: str = "",
        vault: str | None = VAULT,
        account: str | None = None,
    ) -> OnePassword:
        script = f"""\
            #!{sys.executable}
            import json, os, stat, sys
            kind = os.fstat(0).st_mode
            if stat.S_ISFIFO(kind):
                sys.exit("[ERROR] 2026/11/23 17:00:00 invalid JSON in piped input")
            with open({str(tmp_path / "called.json")!r}, "w") as file:
                json.dump([sys.argv[1:], dict(os.environ), stat.S_ISCHR(kind)], file)
            sys.stdout.write({stdout!r})
            sys.stderr.write({stderr!r})
            sys.stdout.flush()
            {body}
            sys.exit({code})
        """
        executable = tmp_path / "op"
        executable.write_text(textwrap.dedent(script))
        executable.chmod(0o755)
        return OnePassword(
            vault,
            ITEM,
            account=account,
            fields=("db_password", "jwt_secret"),
            timeout_s=timeout_s,
            environment={**(environment or os.environ), "PATH": str(tmp_path)},
        )

    return make


def item(*fields: dict[str, object]) -> str:
    return json.dumps(
        {"id": "abc", "title": ITEM, "vault": {"id": "v", "name": VAULT}, "fields": list(fields)}
    )


def field(
    label: str, value: str | None, kind: str = "CONCEALED", **more: object
) -> dict[str, object]:
    given = {} if value is None else {"value": value}
    return {"id": label, "type": kind, "label": label, "reference": "op://x", **given, **more}


def fetch_error(source: OnePassword) -> SecretsError:
    with pytest.raises(SecretsError) as caught:
        source.fetch()
    assert caught.value.hint
    return caught.value


def test_one_call_gives_the_fields_by_label(stand_in: StandIn, tmp_path: Path) -> None:
    source = stand_in(item(field("db_password", "s3cret"), field("jwt_secret", "é日本 \n'\"")))
    assert source.fetch() == {
        "db_password": Secret("s3cret"),
        "jwt_secret": Secret("é日本 \n'\""),
    }
    arguments, _, is_device = json.loads((tmp_path / "called.json").read_text())
    assert arguments == ["item", "get", ITEM, "--vault", VAULT, "--format", "json"]
    assert is_device, "op reads standard input if it is a pipe"


def test_without_a_vault_all_vaults_of_the_named_account_are_searched(
    stand_in: StandIn, tmp_path: Path
) -> None:
    stand_in(item(field("a", "b")), vault=None, account="my.1password.eu").fetch()
    arguments, *_ = json.loads((tmp_path / "called.json").read_text())
    assert arguments == ["item", "get", ITEM, "--account", "my.1password.eu", "--format", "json"]


def test_a_user_name_kept_as_text_counts_and_other_types_do_not(stand_in: StandIn) -> None:
    source = stand_in(
        item(
            field("db_username", "ktrdr", "STRING"),
            field("website", "https://example.org", "URL"),
            field("one-time", "otpauth://", "OTP"),
        )
    )
    assert source.fetch() == {"db_username": Secret("ktrdr")}


def test_a_field_without_a_value_is_there_and_empty(stand_in: StandIn) -> None:
    assert stand_in(item(field("a", None))).fetch() == {"a": Secret("")}


def test_the_same_label_in_two_sections_is_refused(stand_in: StandIn) -> None:
    source = stand_in(
        item(
            field("db_password", "hunter22"),
            field("db_password", "hunter33", section={"id": "s1", "label": "Old"}),
            field("jwt_secret", "x", section={"id": "s2"}),
            field("jwt_secret", "y", section={"id": "s3", "label": "New"}),
        )
    )
    assert str(fetch_error(source)) == (
        f'the item "{ITEM}" cannot be used: db_password occurs 2 times; jwt_secret occurs 2 times'
    )


def test_labels_that_nothing_needs_may_occur_twice(stand_in: StandIn) -> None:
    source = stand_in(item(field("note", "a"), field("note", "b"), field("jwt_secret", "x")))
    assert source.fetch()["jwt_secret"] == Secret("x")


def test_the_environment_is_passed_on_and_no_argument_holds_a_credential(
    stand_in: StandIn, tmp_path: Path
) -> None:
    environment = {
        "OP_SERVICE_ACCOUNT_TOKEN": "ops_t0ken",
        "OP_CONNECT_HOST": "http://connect",
        "OP_CONNECT_TOKEN": "c0nnect",
    }
    stand_in(item(field("a", "b")), environment=environment).fetch()
    arguments, seen, _ = json.loads((tmp_path / "called.json").read_text())
    assert environment.items() <= seen.items()
    assert not [word for word in arguments if "ops_t0ken" in word or "c0nnect" in word]


TIMESTAMP = "[ERROR] 2026/11/23 17:00:00 "
ERRORS = {
    "You are not currently signed in. Please run `op signin --help`": "is not signed in",
    "account is not signed in": "is not signed in",
    "not signed in": "is not signed in",
    "you aren't signed in": "is not signed in",
    "1Password CLI couldn't connect to the 1Password desktop app. To fix this, update it": (
        "cannot reach the 1Password app"
    ),
    "multiple accounts found. Use the --account flag or set OP_ACCOUNT": "which of several",
    'error initializing client: found multiple accounts for filter "my.1password.com"': (
        "which of several"
    ),
    'error initializing client: found no accounts for filter "x.1password.com"': (
        "op has no 1Password account"
    ),
    "no account found for filter": "op has no 1Password account",
    "(401) Unauthorized: You aren't authorized to perform this action.": "does not let this",
    f'"{ITEM}" isn\'t an item. Specify the item with its UUID, name, or domain.': (
        f'the vault "{VAULT}" has no item "{ITEM}"'
    ),
    "item not found": f'the vault "{VAULT}" has no item "{ITEM}"',
    "not found": f'the vault "{VAULT}" has no item "{ITEM}"',
    "vault not found": f'has no vault "{VAULT}"',
    "session expired, sign in to create a new session": "is not signed in",
    "error initializing client: authorization prompt dismissed, please try again": "was dismissed",
    "error initializing client: authorization timeout": "was dismissed",
    "error initializing client: connecting to desktop app: cannot connect to 1Password app": (
        "cannot reach the 1Password app"
    ),
    "No accounts configured for use with 1Password CLI.": "op has no 1Password account",
    f'"{ITEM}" isn\'t an item in the "{VAULT}" vault. Specify the item': (
        f'the vault "{VAULT}" has no item "{ITEM}"'
    ),
    f'"{VAULT}" isn\'t a vault in this account. Specify the vault': f'has no vault "{VAULT}"',
    f'More than one item matches "{ITEM}". Try again and specify the item by its ID:': (
        "more than one item"
    ),
}


def test_each_known_error_of_op_has_a_plain_message_of_its_own(stand_in: StandIn) -> None:
    messages = {
        words: str(fetch_error(stand_in(stderr=f"{TIMESTAMP}{words}\n", code=1)))
        for words in ERRORS
    }
    for words, meaning in ERRORS.items():
        assert meaning in messages[words], words
        assert "[ERROR]" not in messages[words], words
    assert len(set(messages.values())) == len(set(ERRORS.values()))


def test_an_unknown_error_is_quoted_without_its_timestamp(stand_in: StandIn) -> None:
    error = fetch_error(stand_in(stderr=f"{TIMESTAMP}something quite new\n\n", code=1))
    assert str(error) == "op failed with exit code 1: something quite new"


def test_the_timestamp_of_an_error_may_be_missing(stand_in: StandIn) -> None:
    error = fetch_error(stand_in(stderr="[ERROR] something quite new\n", code=1))
    assert str(error) == "op failed with exit code 1: something quite new"


def test_without_a_vault_messages_name_the_account(stand_in: StandIn) -> None:
    missing = stand_in(stderr=f'"{ITEM}" isn\'t an item.', code=1, vault=None)
    assert str(fetch_error(missing)) == f'this 1Password account has no item "{ITEM}"'
    no_account = stand_in(stderr="found no accounts for filter", code=1, account="my")
    assert str(fetch_error(no_account)) == 'op has no 1Password account "my"'


def test_names_in_an_error_of_op_are_not_taken_for_its_cause(stand_in: StandIn) -> None:
    vault = "not signed in: desktop app, session expired"
    source = stand_in(stderr=f'"x" isn\'t an item in the "{vault}" vault', code=1, vault=vault)
    assert str(fetch_error(source)) == f'the vault "{vault}" has no item "{ITEM}"'


def test_a_credential_that_op_quotes_is_not_passed_on(stand_in: StandIn) -> None:
    environment = {**os.environ, "OP_SERVICE_ACCOUNT_TOKEN": "ops_t0ken"}
    error = fetch_error(stand_in(stderr="bad token ops_t0ken", code=1, environment=environment))
    assert str(error) == "op failed with exit code 1: bad token •••"


def test_op_that_is_not_installed(tmp_path: Path) -> None:
    error = fetch_error(OnePassword(VAULT, ITEM, environment={"PATH": str(tmp_path)}))
    assert "is not installed" in str(error)


def test_op_that_does_not_answer_is_ended_and_what_it_printed_is_dropped(
    stand_in: StandIn,
) -> None:
    source = stand_in(
        item(field("a", "hunter22")), timeout_s=0.5, body="import time; time.sleep(60)"
    )
    error = fetch_error(source)
    assert "did not answer within 0.5 s" in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "hunter22",
        "[1]",
        "null",
        '{"fields": {}}',
        '{"fields": ["hunter22", 3]}',
        '{"fields": []}',
    ],
)
def test_an_answer_that_is_not_understood_is_refused_without_quoting_it(
    stand_in: StandIn, printed: str
) -> None:
    error = fetch_error(stand_in(printed))
    assert "no valid JSON" in str(error)
    shown = traceback.TracebackException.from_exception(error, capture_locals=True).format()
    assert "hunter22" not in "".join(shown)
    assert error.__context__ is None


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["fields", "type", "label", "value", "section", "id"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(printed=json_values)
def test_no_shape_of_json_makes_reading_it_fail(printed: object) -> None:
    for label, _ in _parse_item(Secret(json.dumps({"fields": [printed, {"type": "CONCEALED"}]}))):
        assert label
    _parse_item(Secret(json.dumps(printed)))


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A stand-in for `op` that is quick to start, and the file that it prints."""
    directory = tmp_path_factory.mktemp("op")
    executable = directory / "op"
    executable.write_text(f"#!/bin/sh\nexec cat '{directory}/answer'\n")
    executable.chmod(0o755)
    return directory, directory / "answer"


items = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["CONCEALED", "STRING", "URL"]), "label": st.text(max_size=3)},
        optional={"value": json_values, "section": json_values},
    ),
    max_size=3,
)
answers = st.one_of(
    st.binary(max_size=40),
    json_values.map(lambda value: json.dumps(value).encode()),
    items.map(lambda fields: json.dumps({"fields": fields}).encode()),
    items.map(lambda fields: json.dumps({"fields": fields}).encode()[:-3]),
)


@settings(deadline=None)
@given(answer=answers)
def test_any_answer_gives_fields_or_a_sentence(echo: tuple[Path, Path], answer: bytes) -> None:
    directory, file = echo
    file.write_bytes(answer)
    environment = {"PATH": f"{directory}:/usr/bin:/bin"}
    try:
        said = str(OnePassword(VAULT, ITEM, environment=environment).fetch())
    except SecretsError as error:
        said = error.message
    assert said.startswith(("{", "op printed no fields", f'the item "{ITEM}" cannot be used'))
