"""What a shell makes of a rendered script, in real shells."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr.deployment.scripts.script import (
    SENTINEL,
    Script,
    quote,
    render,
    render_for_display,
    words,
)
from ktrdr.secret import Secret

SHELLS = ["dash", "bash"]
AWKWARD = "'\"$`\\%#=&;|<>(){}*?!~ \t\ninside é 日本 $(id) ${HOME} \\n\r\x01\x7f"
anything = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200)


def run(shell: str, script: Secret) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [shell, "-s"], input=script.reveal().encode(), capture_output=True, check=False
    )


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("value", [AWKWARD, "", "'", "\n", "a\n", "\\", "-n", "é" * 4096])
def test_a_secret_arrives_byte_for_byte(shell, value):
    script = render(
        Script('printf %s "$PASSWORD"', secrets=("PASSWORD",)), {"PASSWORD": Secret(value)}
    )

    assert run(shell, script).stdout == value.encode() + f"{SENTINEL}\n".encode()


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=60, deadline=None)
@given(secret=anything, setting=anything)
def test_every_text_arrives_byte_for_byte_in_a_child_process(shell, secret, setting):
    body = "env -0"
    script = render(Script(body, (("PLAIN", setting),), ("HIDDEN",)), {"HIDDEN": Secret(secret)})

    entries = run(shell, script).stdout.split(b"\0")

    assert f"PLAIN={setting}".encode() in entries
    assert f"HIDDEN={secret}".encode() in entries


@settings(max_examples=60, deadline=None)
@given(arguments=st.lists(anything, min_size=1, max_size=4))
def test_a_command_line_keeps_its_arguments_apart(arguments):
    script = render(Script(f"printf '%s\\0' {words(*arguments)}"), {})

    *shown, last = run("dash", script).stdout.split(b"\0")

    assert shown == [argument.encode() for argument in arguments]
    assert last == f"{SENTINEL}\n".encode()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_failing_command_ends_the_script_without_its_sentinel(shell):
    done = run(shell, render(Script("echo before\n(exit 3)\necho after"), {}))

    assert done.returncode == 3
    assert done.stdout == b"before\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_an_unset_variable_ends_the_script(shell):
    done = run(shell, render(Script('echo "$NOT_THERE"'), {}))

    assert done.returncode != 0
    assert SENTINEL.encode() not in done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_a_command_that_reads_its_input_does_not_eat_the_script(shell):
    done = run(shell, render(Script("cat\necho still here"), {}))

    assert done.stdout == f"still here\n{SENTINEL}\n".encode()


@pytest.mark.parametrize("shell", SHELLS)
def test_half_a_script_does_nothing(shell):
    whole = render(Script("echo one\necho two"), {}).reveal()

    done = run(shell, Secret(whole[: whole.index("echo two")]))

    assert done.stdout == b""


def test_a_shown_script_has_names_in_place_of_values():
    shown = render_for_display(Script("true", (("TAG", "sha-1"),), ("DB_PASSWORD",)))

    assert shown == (
        "main() {\nset -eu\nexport TAG=sha-1\nexport DB_PASSWORD=<DB_PASSWORD>\n"
        f"true\necho {SENTINEL}\n}}\nmain </dev/null\n"
    )


def test_a_nul_character_is_refused():
    with pytest.raises(ValueError, match="NUL"):
        quote("a\0b")


@pytest.mark.parametrize("name", ["", "A B", "1A", "A=B", "A;id", "A\n"])
def test_what_is_no_name_of_a_variable_is_refused(name):
    with pytest.raises(ValueError, match="name of a shell variable"):
        render(Script("true", ((name, "x"),)), {})


def test_a_missing_secret_is_refused():
    with pytest.raises(KeyError, match="DB_PASSWORD"):
        render(Script("true", secrets=("DB_PASSWORD",)), {})
