"""Comparison of a host with a release, by a real shell on real files."""

from __future__ import annotations

import base64
import subprocess
import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr.deployment.releases.release import pack_archive
from ktrdr.deployment.scripts.script import Script
from tests.thoroughness import examples
from tests.unit.deployment.shell import SCRIPTS, Shell

TEMPLATE = """{{join (split (slice . 5) "'") "'\\\\''" """.rstrip()
FILES = {"same.yml": b"1\n", "other.yml": b"new\n", "new.yml": b"", "monitoring/kept": b"x"}


def diff(staging: str, workdir: Path, *more: str) -> Script:
    options = (
        *("--project", "p", "--workdir", str(workdir), "--staging", staging),
        *(
            "--compose-file",
            "c.yml",
            "--env-file",
            ".env",
            "--managed-directory",
            "monitoring",
            *more,
        ),
    )
    return Script("scripts/diff.sh", (*options, "--", *sorted(FILES)), payload=pack_archive(FILES))


@pytest.fixture
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("host"))


@pytest.fixture
def staging() -> str:
    return f"/dev/shm/ktrdr-diff-{uuid.uuid4().hex}"


def files_in(printed: list[str]) -> list[str]:
    return printed[printed.index("== files") + 1 : printed.index("== history")]


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


def test_different_files_are_printed_with_their_content_and_nothing_is_left(
    shell, staging, workdir
) -> None:
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    assert files_in(shell.run(diff(staging, workdir))) == [
        "+ new.yml",
        f"~ other.yml {base64.b64encode(b'old' + bytes([255, 10])).decode()}",
        f"- monitoring/left over {base64.b64encode(b'gone' + bytes([10])).decode()}",
    ]
    assert not Path(staging).exists()
    assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before


def test_on_a_host_without_a_work_directory_all_files_are_new(shell, staging, tmp_path) -> None:
    printed = shell.run(diff(staging, tmp_path / "none"))
    assert files_in(printed) == [f"+ {name}" for name in sorted(FILES)]


def test_a_directory_of_another_user_is_not_used(shell, staging, tmp_path) -> None:
    Path(staging).mkdir()
    try:
        assert shell.start(diff(staging, tmp_path)).returncode != 0
        assert list(Path(staging).iterdir()) == []
    finally:
        Path(staging).rmdir()


def test_compose_reads_the_release_with_all_profiles(shell, staging, tmp_path) -> None:
    shell.run(diff(staging, tmp_path, "--profile", "*"))
    _, hashes = [call for call in shell.calls if call.startswith("compose")]
    assert hashes == (
        f"compose -p p --project-directory {tmp_path} -f {staging}/c.yml "
        f"--env-file {staging}/.env --profile * config --hash *"
    )


def test_the_registry_is_asked_for_tags_that_can_move(shell, staging, tmp_path) -> None:
    shell.docker("compose", "echo '    image: x@sha256:1'")
    printed = shell.run(diff(staging, tmp_path, "--registry", "x:latest"))
    assert "x:latest 0 sha256:1" in printed


# ------------------------------------------------------------------- secrets that containers have


def export_template(*pairs: str) -> str:
    """Return the template for Docker that exports these pairs of variables."""
    text = (SCRIPTS / "diff.sh").read_text()
    function = text[text.index("print_export_template() {") : text.index("\nmain() {")]
    program = f"deployed_secrets='{' '.join(pairs)}'\n{function}\nprint_export_template"
    return subprocess.run(["sh", "-c", program], capture_output=True, text=True, check=True).stdout


@settings(max_examples=examples(60), deadline=None)
@given(
    value=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=80)
)
def test_the_template_quotes_each_value_for_a_shell(value: str) -> None:
    """Python simulates `split` and `join` of Docker's templates."""
    line = export_template("WANTED=NAME")
    assert line.startswith('{{range .Config.Env}}{{if eq (index (split . "=") 0) "NAME"}}export ')
    begin, end = line.index("{{join"), line.rindex("}}'")
    assert line[begin:end] == TEMPLATE
    quoted = line[line.index("export") : begin] + "'\\''".join(value.split("'")) + "'"
    ran = subprocess.run(
        ["sh", "-c", 'eval "$(cat)"; printf %s "$WANTED"'],
        input=quoted.encode(),
        capture_output=True,
        check=True,
    )
    assert ran.stdout == value.encode()


def test_each_secret_of_a_container_has_a_line_of_its_own() -> None:
    template = export_template("A=B", "LONG=LONGER_NAME")
    lines = (
        """{{if eq (index (split . "=") 0) "%s"}}export %s='{{join (split (slice . %s) "'")"""
        """ "'\\\\''"}}'\n{{end}}"""
    )
    first, second = (lines % each for each in (("B", "A", 2), ("LONGER_NAME", "LONG", 12)))
    assert template == f"{{{{range .Config.Env}}}}{first}{second}{{{{end}}}}"


def test_only_compose_receives_the_secrets_of_containers(shell, staging, tmp_path) -> None:
    shell.docker("ps", "echo c1")
    shell.docker("inspect", """case "$3" in *export*) echo "export SECRET='it is'" ;; esac""")
    shell.docker("compose", 'echo "service ${SECRET-unset}"; echo "$SECRET" >&2')
    done = shell.start(diff(staging, tmp_path, "--deployed-secret", "SECRET=NAME"))
    assert "== hashes\nservice it is\n" in done.stdout
    assert (done.returncode, done.stderr) == (0, ""), "what complains of them is not heard"
    # Then there are none to be had, and it is said why.
    shell.docker("compose", 'echo "no SECRET" >&2; exit 1')
    done = shell.start(diff(staging, tmp_path, "--deployed-secret", "SECRET=NAME"))
    assert (done.returncode, done.stderr) == (1, "no SECRET\n")


def test_exported_secrets_are_compared_with_those_of_the_containers(
    shell, staging, tmp_path
) -> None:
    shell.docker("compose", "echo 'a hash'")
    printed = shell.run(diff(staging, tmp_path, "--secrets", "given"))
    assert printed[-4:] == ["== hashes", "a hash", "== unchanged", "a hash"]
