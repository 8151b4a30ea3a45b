from __future__ import annotations

import base64
import copy
import dataclasses
import inspect
import io
import itertools
import json
import pickle
import re
import shlex
import subprocess
import time
import traceback
import urllib.parse
from collections.abc import Callable

import pytest
import rich.console
import rich.pretty
import rich.traceback
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticSerializationError

from ktrdr.secret import REDACTED, Scrubber, Secret, redact_assignments

VALUE = "s3cr3t-Value"
NASTY = "p'\"$`\\%#=&;|<>(){}*?!~ \té日本"


@dataclasses.dataclass
class Holder:
    password: Secret


class Model(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    password: Secret


def rich_text(thing: object) -> str:
    console = rich.console.Console(file=io.StringIO(), width=200)
    rich.inspect(thing, console=console, all=True, private=True, dunder=True)
    console.print(rich.pretty.Pretty(thing))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def traceback_with_locals(secret: Secret) -> str:
    try:
        shlex.quote(secret)  # type: ignore[arg-type]  # the mistake is the point
    except TypeError as exc:
        console = rich.console.Console(file=io.StringIO(), width=200)
        console.print(
            rich.traceback.Traceback.from_exception(
                type(exc), exc, exc.__traceback__, show_locals=True
            )
        )
        assert isinstance(console.file, io.StringIO)
        frames = traceback.TracebackException.from_exception(exc, capture_locals=True)
        return console.file.getvalue() + "".join(frames.format())
    raise AssertionError("shlex.quote took a Secret")


SHOWN: dict[str, Callable[[Secret], str]] = {
    "str": str,
    "repr": repr,
    "format": lambda secret: format(secret, ">20"),
    "f-string": lambda secret: f"{secret} {secret!r} {secret!s:^30}",
    "percent": lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - the old way is the case
    "attribute in a format": lambda secret: f"{secret.reveal} {secret._read}",
    "inside a list": lambda secret: str([secret]),
    "inside a dataclass": lambda secret: repr(dataclasses.asdict(Holder(secret))),
    "inside a model": lambda secret: repr(Model(password=secret)),
    "model_dump": lambda secret: repr(Model(password=secret).model_dump()),
    "json with default=str": lambda secret: json.dumps({"a": secret}, default=str),
    "members": lambda secret: repr(inspect.getmembers(secret)),
    "state": lambda secret: repr(getattr(secret, "__getstate__", lambda: None)()),
    "rich": rich_text,
    "traceback with locals": traceback_with_locals,
}


@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN)
def test_no_representation_of_a_secret_shows_its_value(show: Callable[[Secret], str]) -> None:
    assert VALUE not in show(Secret(VALUE))


REFUSED: dict[str, Callable[[Secret], object]] = {
    "json": lambda secret: json.dumps({"a": secret}),
    "model_dump_json": lambda secret: Model(password=secret).model_dump_json(),
    "yaml": lambda secret: yaml.dump({"a": secret}),
    "pickle": pickle.dumps,
    "shlex.quote": lambda secret: shlex.quote(secret),  # type: ignore[arg-type]  # the mistake
    "joining": lambda secret: "".join([secret]),  # type: ignore[list-item]  # the mistake
    "adding": lambda secret: "PASSWORD=" + secret,  # type: ignore[operator]  # the mistake
    # The mistake again; the line has no room to say so.
    "argument list": lambda secret: subprocess.run(["true", secret]),  # type: ignore[list-item]
    "bytes": lambda secret: bytes(secret),  # type: ignore[call-overload]  # the mistake
    "vars": vars,
}


@pytest.mark.parametrize("use", REFUSED.values(), ids=REFUSED)
def test_a_secret_used_as_text_fails_loudly_and_without_its_value(
    use: Callable[[Secret], object],
) -> None:
    with pytest.raises((TypeError, yaml.YAMLError, PydanticSerializationError)) as caught:
        use(Secret(VALUE))
    assert VALUE not in "".join(traceback.format_exception(caught.value))


def test_a_copy_of_a_secret_is_itself() -> None:
    secret = Secret(VALUE)
    assert copy.copy(secret) is secret
    assert copy.deepcopy({"a": secret})["a"] is secret


def test_only_reveal_returns_the_value() -> None:
    assert Secret(NASTY).reveal() == NASTY


def test_secrets_compare_by_value_and_only_with_secrets() -> None:
    assert Secret("a") == Secret("a")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert not Secret("")


def test_a_secret_that_is_not_text_is_refused() -> None:
    with pytest.raises(TypeError, match="not bytes"):
        Secret(b"abcdef")  # type: ignore[arg-type]  # the mistake is the point


# ---------------------------------------------------------------- scrubber

values = st.text(st.characters(exclude_categories=["Cs"]), min_size=4, max_size=40).filter(
    lambda value: not value.isspace()
)
ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "shlex.quote": shlex.quote,
    "bash trace": lambda value: value.replace("'", "'\\''"),
    "url": urllib.parse.quote,
    "strict url": lambda value: urllib.parse.quote(value, safe=""),
    "form": urllib.parse.quote_plus,
    "json": json.dumps,
    "json, not ascii": lambda value: json.dumps(value, ensure_ascii=False),
    "repr": repr,
    "ascii": ascii,
    "repr of bytes": lambda value: repr(value.encode()),
    "compose config": lambda value: value.replace("$", "$$"),
    "compose config as json": lambda value: json.dumps(value.replace("$", "$$")),
    "docker inspect": lambda value: (
        json.dumps(value, ensure_ascii=False)
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
    ),
    "sql": lambda value: value.replace("'", "''"),
    "url in small letters": lambda value: re.sub(
        "%..", lambda found: found[0].lower(), urllib.parse.quote(value)
    ),
}


def body(encoded: str) -> str:
    """Return the text between the quotes, if there are any."""
    found = re.fullmatch(r"""b?(['"])(.*)\1""", encoded, re.DOTALL)
    return found[2] if found else encoded


@example(value=NASTY, before="", after="")
@given(value=values, before=st.text(), after=st.text())
def test_no_encoding_of_a_secret_is_left_in_a_text(value: str, before: str, after: str) -> None:
    scrubber = Scrubber([Secret(value)])
    for name, encode in ENCODINGS.items():
        encoded = encode(value)
        clean = scrubber.scrub(f"{before}{encoded}{after}".encode(errors="ignore").decode())
        assert body(encoded) not in clean, name
        assert value not in clean, name


@pytest.mark.parametrize("alphabet", [base64.b64encode, base64.urlsafe_b64encode])
@given(value=values, before=st.binary(max_size=7), after=st.binary(max_size=7))
def test_a_secret_inside_a_larger_base64_text_is_replaced(
    alphabet: Callable[[bytes], bytes], value: str, before: bytes, after: bytes
) -> None:
    encoded = alphabet(before + value.encode() + after).decode()
    clean = Scrubber([Secret(value)]).scrub(f"auth {encoded} end")
    assert REDACTED in clean or "•" in value
    left = max(map(len, re.findall(r"[\w+/=-]+", clean.removeprefix("auth "))), default=0)
    # What is left on either side tells at most one character more than the neighbours' own bytes.
    assert left <= -(-(max(len(before), len(after)) + 3) * 8 // 6) + 4


@example(secrets=["0000"], noise=[""] * 4, cuts=[4])
@given(
    secrets=st.lists(values, min_size=1, max_size=4),
    noise=st.lists(st.text(max_size=12), min_size=4, max_size=4),
    cuts=st.lists(st.integers(0, 400), max_size=12),
)
def test_a_stream_gives_the_same_output_however_it_is_cut(
    secrets: list[str], noise: list[str], cuts: list[int]
) -> None:
    scrubber = Scrubber(map(Secret, secrets))
    text = "".join(n + s for n, s in zip(noise, secrets, strict=False))
    data = text.encode(errors="surrogatepass")
    stream = scrubber.stream()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    out = b"".join(stream.feed(data[a:b]) for a, b in itertools.pairwise(edges))
    out += stream.finish()
    assert out.decode(errors="surrogatepass") == scrubber.scrub(text)
    assert not [s for s in secrets if s.encode() in out]


def test_a_secret_that_overlaps_itself_is_replaced_whole() -> None:
    scrubber = Scrubber([Secret("abab")])
    assert scrubber.scrub("<ababab>") == "<•••>"
    stream = scrubber.stream()
    assert stream.feed(b"<abab") + stream.feed(b"ab") + stream.feed(b">") == "<•••>".encode()


@pytest.mark.parametrize("form", [VALUE, base64.b64encode(VALUE.encode()).decode()])
def test_an_encoding_that_is_cut_anywhere_is_replaced_and_not_held_back(form: str) -> None:
    for cut in range(len(form)):
        stream = Scrubber([Secret(VALUE)]).stream()
        assert stream.feed(form[:cut].encode()) == b""
        assert stream.feed(form[cut:].encode()) == REDACTED.encode()


def test_a_long_secret_in_lines_of_base64_is_replaced() -> None:
    value = "".join(map(chr, range(33, 127))) * 2
    printed = subprocess.run(["base64"], input=value.encode(), capture_output=True, check=True)
    clean = Scrubber([Secret(value)]).scrub(printed.stdout.decode())
    assert clean.splitlines()[:3] == [REDACTED] * 3


@pytest.mark.parametrize(
    "command",
    ["export -p", "declare -p V", 'printf "%q\n" "$V"', 'set -x; : "$V"', 'echo "${V@Q}"'],
)
@pytest.mark.parametrize("value", [NASTY, NASTY.replace("\t", ""), "two\nlines 'of' it"])
def test_a_variable_printed_by_a_shell_is_replaced(command: str, value: str) -> None:
    environ = {"V": value, "LC_ALL": "C.UTF-8"}
    # In the root directory: the shell prints where it is, and a checkout may have any name.
    printed = subprocess.run(
        ["bash", "-c", command], env=environ, cwd="/", capture_output=True, check=True
    )
    clean = Scrubber([Secret(value)]).scrub((printed.stdout + printed.stderr).decode())
    assert REDACTED in clean
    assert not re.findall("[#{}~é日]|lines|of", clean)


@given(alphabet=st.sampled_from(["ab", "a•", "'\"", "$'\\"]), data=st.data())
def test_secrets_that_repeat_and_overlap_leave_nothing(alphabet: str, data: st.DataObject) -> None:
    words = st.text(alphabet, min_size=4, max_size=8)
    secrets = data.draw(st.lists(words, min_size=1, max_size=3))
    text = data.draw(st.text(alphabet, max_size=60))
    clean = Scrubber(map(Secret, secrets)).scrub(text)
    assert not [secret for secret in secrets if secret in clean]


@given(text=st.text(alphabet="xyz \n'\"%", max_size=80))
def test_text_without_a_secret_stays_unchanged(text: str) -> None:
    assert Scrubber([Secret("abcdef")]).scrub(text) == text


def test_bytes_that_are_not_utf8_pass_through_unchanged() -> None:
    stream = Scrubber([Secret("abcdef")]).stream()
    assert (
        stream.feed(b"\xff\xfe abcdef \xe2") + stream.finish()
        == b"\xff\xfe \xe2\x80\xa2\xe2\x80\xa2\xe2\x80\xa2 \xe2"
    )


def test_one_line_of_a_secret_of_many_lines_is_replaced_by_itself() -> None:
    scrubber = Scrubber([Secret("-----BEGIN KEY-----\nMIIEvQIBADANB\r\nab\n")])
    assert scrubber.scrub("db | MIIEvQIBADANB\ncab") == "db | •••\ncab"


def test_a_secret_within_another_does_not_leave_the_rest_of_it() -> None:
    scrubber = Scrubber([Secret("hunter"), Secret("the-hunter-22")])
    assert scrubber.scrub("the-hunter-22 hunter") == "••• •••"


def test_secrets_that_overlap_in_the_text_leave_no_part_of_either() -> None:
    assert Scrubber([Secret("abcdef"), Secret("defghi")]).scrub("<abcdefghi>") == "<•••>"


@pytest.mark.parametrize("short", ["", "abc", " \t \n "])
def test_a_blank_or_very_short_value_does_not_blank_ordinary_words(short: str) -> None:
    assert Scrubber([Secret(short)]).scrub("abc \t \n abcd") == "abc \t \n abcd"


def test_a_secret_that_contains_the_mark_is_replaced_by_another_mark() -> None:
    clean = Scrubber([Secret("•••x"), Secret("abcd")]).scrub("abcdx •••x")
    assert "•••x" not in clean
    assert "abcd" not in clean


def test_a_stream_passes_a_whole_line_immediately() -> None:
    stream = Scrubber([Secret("abcdef")]).stream()
    assert stream.feed(b"pulling\n") == b"pulling\n"


def test_a_stream_holds_back_only_the_possible_beginning_of_a_secret() -> None:
    stream = Scrubber([Secret("abcdef")]).stream()
    assert stream.feed(b"password abc") == b"password "
    assert stream.feed(b"def\n") == "•••\n".encode()
    assert stream.feed(b"abc") == b""
    assert stream.finish() == b"abc"


def test_a_secret_learned_later_is_replaced_from_then_on_in_open_streams_too() -> None:
    scrubber = Scrubber()
    stream = scrubber.stream()
    assert stream.feed(b"abcdef\n") == b"abcdef\n"
    scrubber.learn(Secret("abcdef"))
    assert stream.feed(b"abcdef\n") == "•••\n".encode()


def test_ten_megabytes_pass_in_about_a_second() -> None:
    scrubber = Scrubber(Secret(f"{NASTY}{n}") for n in range(5))
    chunk = (b"worker-1  | INFO pulled layer 4f2c in 3.2 s from the registry\n" * 1100)[:65536]
    stream = scrubber.stream()
    start = time.perf_counter()
    for _ in range(160):
        stream.feed(chunk)
    # Measured 0.2 s; the bound leaves room for a loaded machine.
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ('DB_PASSWORD=it\'s "a" secret', "DB_PASSWORD=•••"),
        ("export JWT_SECRET='x'", "export JWT_SECRET=•••"),
        ("JWT_SECRET_PREVIOUS=x y", "JWT_SECRET_PREVIOUS=•••"),
        ("{'HOME': '/', 'WORKER_TOKEN': 'x', 'A': 'b'}", "{'HOME': '/', 'WORKER_TOKEN': •••"),
        ('"GF_SECURITY_ADMIN_PASSWORD=x",', '"GF_SECURITY_ADMIN_PASSWORD=•••'),
        ("a\nDB_PASSWORD=x\nb", "a\nDB_PASSWORD=•••\nb"),
    ],
)
def test_an_assignment_to_a_secret_variable_is_redacted(printed: str, shown: str) -> None:
    assert redact_assignments(printed) == shown


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("BROKER_DSN=it's x", "BROKER_DSN=•••"),
        ('{"BROKER_DSN": "x", "A": 1}', '{"BROKER_DSN": •••'),
        ("BROKER_DSN_FILE=/run/secrets/broker_dsn", "BROKER_DSN_FILE=/run/secrets/broker_dsn"),
        ("MY_BROKER_DSN=x", "MY_BROKER_DSN=x"),
        ("DB_PASSWORD=x", "DB_PASSWORD=•••"),
    ],
)
def test_further_variables_are_redacted_by_their_whole_names(printed: str, shown: str) -> None:
    assert redact_assignments(printed, ["BROKER_DSN"]) == shown


@pytest.mark.parametrize(
    "printed",
    [
        "JWT_SECRET_PREVIOUS_UNTIL=2026-11-24T05:30:00Z",
        "WORKER_TOKEN_FILE=/run/secrets/worker_token",
        "DB_PASSWORD=",
        "the token = 3",
        "NOSECRET=1",
    ],
)
def test_other_text_is_not_redacted(printed: str) -> None:
    assert redact_assignments(printed) == printed


@given(
    name=st.sampled_from(["DB_PASSWORD", "JWT_SECRET", "WORKER_TOKEN"]), value=st.text(min_size=1)
)
def test_no_line_that_begins_with_a_secrets_assignment_shows_any_of_it(
    name: str, value: str
) -> None:
    line = "".join(value.splitlines()).strip()
    assume(line)
    assert redact_assignments(f"{name}={line}") == f"{name}=•••"
