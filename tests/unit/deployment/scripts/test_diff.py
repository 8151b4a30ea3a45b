"""The script that compares: run by a real shell, on real files."""

from __future__ import annotations

import base64
import subprocess
import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr.deployment.scripts import difference
from ktrdr.deployment.scripts import release as archives
from ktrdr.deployment.scripts.difference import Handed
from ktrdr.deployment.scripts.script import Script, render

TEMPLATE = """{{join (split (slice . 5) "'") "'\\\\''" """.rstrip()
FILES = {"same.yml": b"1\n", "other.yml": b"new\n", "new.yml": b"", "monitoring/kept": b"x"}


def run(script: Script) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh"], input=render(script, {}).reveal(), capture_output=True, text=True, check=False
    )


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    place = tmp_path / "work dir's"
    for name, content in {
        "same.yml": b"1\n",
        "other.yml": b"old\xff\n",
        "monitoring/kept": b"x",
        "monitoring/left over": b"gone\n",
        "elsewhere": b"mine\n",
    }.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return place


def test_files_that_differ_are_named_with_what_is_there_and_nothing_is_left(workdir) -> None:
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    place = difference.staging(uuid.uuid4().hex)
    body = [difference.stage(place), difference.files(place, str(workdir), FILES, "monitoring/")]
    ran = run(Script("\n".join(body), payload=archives.archive(FILES)))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines()[:-1] == [
        "+ new.yml",
        f"~ other.yml {base64.b64encode(b'old' + bytes([255, 10])).decode()}",
        f"- monitoring/left over {base64.b64encode(b'gone' + bytes([10])).decode()}",
    ]
    assert not Path(place).exists()
    assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before


def test_a_host_without_a_work_directory_has_everything_before_it(tmp_path) -> None:
    place = difference.staging(uuid.uuid4().hex)
    files = difference.files(place, str(tmp_path / "none"), FILES, "monitoring/")
    ran = run(Script(f"{difference.stage(place)}\n{files}", payload=archives.archive(FILES)))
    assert ran.stdout.splitlines()[:-1] == [f"+ {name}" for name in sorted(FILES)]


def test_a_directory_that_somebody_else_made_is_not_used(tmp_path) -> None:
    place = difference.staging(uuid.uuid4().hex)
    Path(place).mkdir()
    try:
        ran = run(Script(difference.stage(place), payload=archives.archive(FILES)))
        assert ran.returncode != 0
        assert Path(place).is_dir()
        assert list(Path(place).iterdir()) == []
    finally:
        Path(place).rmdir()


@settings(max_examples=60, deadline=None)
@given(
    value=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=80)
)
def test_a_shell_reads_back_whatever_the_template_makes_of_a_value(value: str) -> None:
    """Python plays the part of Docker's `split` and `join`, to the template's own letters."""
    line = difference._export(Handed("WANTED", "NAME"))
    begin, end = line.index("{{join"), line.rindex("}}'")
    assert line[begin:end] == TEMPLATE
    shell = line[line.index("export") : begin] + "'\\''".join(value.split("'")) + "'"
    ran = subprocess.run(
        ["sh", "-c", 'eval "$(cat)"; printf %s "$WANTED"'],
        input=shell.encode(),
        capture_output=True,
        check=True,
    )
    assert ran.stdout == value.encode()


def test_secrets_of_containers_are_known_to_nothing_but_the_command_that_needs_them() -> None:
    script = difference.with_secrets_of("p", [Handed("A", "B")], "compose")
    assert script.startswith("(\n")
    assert script.endswith("\ncompose\n) 2>/dev/null")
    assert "json .Config.Env" not in script
