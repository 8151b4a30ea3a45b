"""Rendered scripts, run by real shells."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktrdr.deployment.scripts.script import (
    SENTINEL,
    Script,
    bundle,
    quote,
    render,
    render_command,
    render_for_display,
)
from ktrdr.secret import Secret
from tests.thoroughness import examples
from tests.unit.deployment.shell import SCRIPTS, SHELLS, write_script

AWKWARD = "'\"$`\\%#=&;|<>(){}*?!~ \t\ninside é 日本 $(id) ${HOME} \\n\r\x01\x7f"
anything = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200)
in_every_shell = pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
few = settings(
    max_examples=examples(25),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def run(shell: list[str], script: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*shell, "-s"],
        input=script.encode(),
        env={**os.environ, **env},
        capture_output=True,
        check=False,
    )


def rendered(script: Script, **values: str) -> str:
    return render(script, {name: Secret(value) for name, value in values.items()}).reveal()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scripts")


def script(directory: Path, body: str, **more: Any) -> Script:
    return write_script(directory, body, **more)


# ----------------------------------------------------------------------------------- the frame


@in_every_shell
@pytest.mark.parametrize("value", [AWKWARD, "", "'", "\n", "a\n", "\\", "-n", "é" * 4096])
def test_a_secret_arrives_byte_for_byte(directory, shell, value):
    prints = script(directory, 'printf %s "$PASSWORD"', secrets=("PASSWORD",))
    printed = run(shell, rendered(prints, PASSWORD=value)).stdout
    assert printed == value.encode() + f"{SENTINEL}\n".encode()


@in_every_shell
@few
@given(secret=anything, setting=anything)
def test_every_text_arrives_byte_for_byte_in_a_child_process(directory, shell, secret, setting):
    file = write_script(directory, "env -0").file
    prints = Script(file, settings=(("PLAIN", setting),), secrets=("HIDDEN",))
    entries = run(shell, rendered(prints, HIDDEN=secret)).stdout.split(b"\0")
    assert f"PLAIN={setting}".encode() in entries
    assert f"HIDDEN={secret}".encode() in entries


words = st.lists(st.one_of(anything, st.sampled_from(["--", "--option", "-n"])), max_size=6)


@in_every_shell
@few
@given(arguments=words)
def test_arguments_arrive_word_for_word(directory, shell, arguments):
    prints = Script(
        write_script(directory, 'for word; do printf "%s\\0" "$word"; done').file, tuple(arguments)
    )
    for text in (rendered(prints), render_for_display(prints)):
        *shown, last = run(shell, text).stdout.split(b"\0")
        assert shown == [argument.encode() for argument in arguments]
        assert last == f"{SENTINEL}\n".encode()


@in_every_shell
def test_a_failing_command_ends_the_script_without_its_sentinel(directory, shell):
    done = run(shell, rendered(script(directory, "echo before\n(exit 3)\necho after")))
    assert done.returncode == 3
    assert done.stdout == b"before\n"


@in_every_shell
def test_an_unset_variable_ends_the_script(directory, shell):
    done = run(shell, rendered(script(directory, 'echo "$NOT_THERE"')))
    assert done.returncode != 0
    assert SENTINEL.encode() not in done.stdout


@in_every_shell
def test_a_command_that_reads_standard_input_does_not_consume_the_script(directory, shell):
    done = run(shell, rendered(script(directory, "cat\necho still here")))
    assert done.stdout == f"still here\n{SENTINEL}\n".encode()


@in_every_shell
def test_a_truncated_script_does_nothing(directory, shell):
    file = write_script(directory, 'printf "%s " "$@"').file
    whole = rendered(Script(file, ("--workdir", "/opt/there"), payload=b"x" * 100))
    for length in range(0, len(whole) - len("run </dev/null 9>&-\n"), 23):
        assert run(shell, whole[:length]).stdout == b""
    assert run(shell, whole[: -len(" </dev/null 9>&-\n")]).stdout.startswith(
        b"--workdir /opt/there "
    )


@in_every_shell
def test_the_payload_arrives_byte_for_byte(directory, shell):
    content = bytes(range(256)) * 50
    done = run(shell, rendered(script(directory, "payload", payload=content)))
    assert done.stdout == content + f"{SENTINEL}\n".encode()


def test_a_nul_character_is_refused():
    with pytest.raises(ValueError, match="NUL"):
        quote("a\0b")


@pytest.mark.parametrize("name", ["", "A B", "1A", "A=B", "A;id", "A\n"])
def test_an_invalid_name_of_a_variable_is_refused(directory, name):
    with pytest.raises(ValueError, match="name of a shell variable"):
        render(script(directory, "true", settings=((name, "x"),)), {})


def test_a_missing_secret_is_refused(directory):
    with pytest.raises(KeyError, match="DB_PASSWORD"):
        render(script(directory, "true", secrets=("DB_PASSWORD",)), {})


# ------------------------------------------------------------------------------- displayed scripts


def test_a_displayed_script_reads_secrets_from_variables(directory):
    prints = script(
        directory,
        'printf %s "$DB_PASSWORD"',
        settings=(("TAG", "sha-1"),),
        secrets=("DB_PASSWORD",),
    )
    shown = render_for_display(prints)
    assert "    export TAG=sha-1\n" in shown
    assert '    export DB_PASSWORD="${DB_PASSWORD:?}"\n' in shown
    assert run(["sh"], shown, DB_PASSWORD=AWKWARD).stdout.startswith(AWKWARD.encode())
    without = run(["sh"], shown)
    assert without.returncode != 0
    assert without.stdout == b""


@in_every_shell
def test_displayed_scripts_run_one_after_the_other_until_one_fails(directory, shell):
    steps = [
        script(directory, "echo one; false | true"),
        script(directory, "echo two; (exit 7); echo not this"),
        script(directory, "echo nor that"),
    ]
    done = run(shell, "".join(map(render_for_display, steps)))
    assert done.stdout.decode() == f"one\n{SENTINEL}\ntwo\n"
    assert done.returncode == 7


@in_every_shell
def test_a_descriptor_of_an_inline_script_stays_open_only_in_the_shell(directory, shell, tmp_path):
    opens = script(directory, f"exec 9>{tmp_path}/file", is_inline=True)
    looks = script(directory, "[ ! -e /proc/self/fd/9 ]")
    shown = render_for_display(opens) + render_for_display(looks) + "echo said >&9\n"
    assert run(shell, shown).returncode == 0
    assert (tmp_path / "file").read_text() == "said\n"


def test_a_displayed_script_without_its_payload_fails_with_a_remedy(directory):
    unpacks = script(directory, "payload | tar -xzf -", payload=b"a release")
    done = run(["sh"], render_for_display(unpacks))
    assert done.returncode != 0
    assert done.stdout == b""
    assert re.match(rb"9 bytes \(sha256 .*\) are left out here; .* --dry-run -v\n", done.stderr)
    shown = render_for_display(script(directory, "payload", payload=b"a release"), whole=True)
    assert run(["sh"], shown).stdout.startswith(b"a release")


@pytest.mark.parametrize("login_shell", ["sh", "zsh", "fish", "tcsh"])
@few
@given(arguments=st.lists(anything, max_size=4))
def test_a_script_as_one_command_line_keeps_its_arguments(directory, login_shell, arguments):
    if not shutil.which(login_shell):
        pytest.skip(f"{login_shell} is not installed here")
    file = write_script(directory, 'for word; do printf "%s\\0" "$word"; done').file
    command = render_command(Script(file, tuple(arguments)))
    done = subprocess.run([login_shell, "-c", command], capture_output=True, check=True)
    assert done.stdout.split(b"\0")[:-1] == [argument.encode() for argument in arguments]


# ------------------------------------------------------------------------------- all our scripts

FILES = [
    file
    for directory in (SCRIPTS, SCRIPTS.parent / "homelab/scripts")
    for file in sorted(directory.glob("*.sh"))
    if file.read_text().startswith("#!")
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_each_library_is_inserted_once(file):
    text = bundle(str(file))
    own = re.sub(r"^[A-Z_]+='[^']*'$", "", text, flags=re.MULTILINE)
    functions = re.findall(r"^(\w+)\(\) [{(]", own, re.MULTILINE)
    assert len(functions) == len(set(functions)), "nothing is defined twice"
    assert "run" not in functions, "the frame has this name"
    assert not re.search(r"^\. |\$\(cat \./", text, re.MULTILINE)
    assert f"# Usage: {file.name}" in text


@in_every_shell
def test_every_shell_parses_every_script(shell):
    assert len(FILES) > 30
    for file in FILES:
        done = subprocess.run(
            [*shell, "-n"], input=bundle(str(file)).encode(), capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, b""), file.name


def test_programs_that_are_inserted_as_texts_contain_no_single_quotes():
    """Escaped quotes would make them illegible in a displayed script."""
    texts = {
        file.parent / name
        for file in [*SCRIPTS.glob("*.sh"), *(SCRIPTS.parent / "homelab/scripts").glob("*.sh")]
        for name in re.findall(r"^[A-Z_]+=\$\(cat (\S+)\)$", file.read_text(), re.MULTILINE)
    }
    assert len(texts) >= 7
    for file in texts:
        text = bundle(str(file)) if file.suffix == ".sh" else file.read_text()
        # The variables of psql have quotes.
        assert "'" not in text.replace(":'verifier'", ""), file


@pytest.mark.parametrize("name", ["show_lock", "status", "read_history"])
def test_a_script_also_runs_from_its_own_directory(tmp_path, name):
    (tmp_path / "docker").write_text("#!/bin/sh\n")
    (tmp_path / "docker").chmod(0o755)
    done = subprocess.run(
        ["sh", f"./{name}.sh", str(tmp_path), "p", "/run/x", "10"],
        cwd=SCRIPTS,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
