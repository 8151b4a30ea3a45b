"""Queries of images, and the test container, in real shells with a stand-in for Docker."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ktrdr.deployment.scripts.script import Script
from tests.unit.deployment.shell import SHELLS, Shell, write_script

INDEX = "application/vnd.oci.image.index.v1+json"
# Docker's answers to `docker image inspect --format FORMAT NAME...`.
INSPECT = f"""
case "$*" in
    *--platform*)
        [ ! -e "$here/old" ] || exit 125
        echo "sha256:manifest-of-$7"
        exit ;;
esac
shift 4
code=0
for name; do
    case $name in
        missing*) echo "Error: No such image: $name" >&2; code=1 ;;
        index*) echo "sha256:$name {INDEX} linux/arm64/v8 {{\\"of\\": \\"$name\\"}}" ;;
        *) echo "sha256:$name - linux/amd64 {{\\"of\\": \\"$name\\"}}" ;;
    esac
done
exit $code
"""


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def shell(request, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    shell = Shell(tmp_path_factory.mktemp("host"), request.param)
    shell.docker("image-inspect", INSPECT)
    return shell


def inspect(shell: Shell, directory: Path, *names: str, containers: str = "") -> list[str]:
    body = f"containers='{containers}'\ninspect_images {' '.join(names)}"
    return shell.run(write_script(directory, body, "images"))


def test_each_answer_has_the_name_that_was_asked_for(shell: Shell, tmp_path: Path) -> None:
    names = ("a:1", "docker.io/b", "localhost:5000/c@sha256:1")
    printed = inspect(shell, tmp_path, *names)
    assert printed == [f'{name} - {{"of": "{name}"}}' for name in names]
    assert len(shell.calls) == 1


def test_a_missing_image_does_not_hide_the_others(shell: Shell, tmp_path: Path) -> None:
    printed = inspect(shell, tmp_path, "a", "missing", "index", "b")
    assert sorted(printed) == [
        'a - {"of": "a"}',
        'b - {"of": "b"}',
        'index sha256:manifest-of-index {"of": "index"}',
    ]
    assert inspect(shell, tmp_path, "missing") == []
    assert inspect(shell, tmp_path) == []


def test_the_manifest_of_an_index_is_asked_for_unless_a_container_shows_it(
    shell: Shell, tmp_path: Path
) -> None:
    printed = inspect(shell, tmp_path, "index1", "index2")
    assert printed == [
        'index1 sha256:manifest-of-index1 {"of": "index1"}',
        'index2 sha256:manifest-of-index2 {"of": "index2"}',
    ]
    asked = [call for call in shell.calls if "--platform linux/arm64/v8 " in call]
    assert len(asked) == 2
    running = '{"id":"c","image":"sha256:index2","manifest":{"digest":"x"}}'
    assert inspect(shell, tmp_path, "index2", containers=running) == ['index2 - {"of": "index2"}']
    # A container of an older engine does not show it.
    running = '{"id":"c","image":"sha256:index2","manifest":null}'
    assert "sha256:manifest-of" in inspect(shell, tmp_path, "index2", containers=running)[0]


def test_an_engine_that_knows_no_platforms_is_no_failure(shell: Shell, tmp_path: Path) -> None:
    (shell.directory / "old").touch()
    assert inspect(shell, tmp_path, "index") == ['index - {"of": "index"}']


# -------------------------------------------------------------------------- the test container

START = Script("scripts/start_container.sh", ("p-test", "a:1", "b:1"))


def start(shell: Shell, found: str = "sha256:1", run: str = "") -> subprocess.CompletedProcess[str]:
    shell.docker("image-inspect", f"echo {found}")
    shell.docker("run", run)
    return shell.start(START)


def test_a_container_of_an_image_that_is_there_is_started_and_removed(shell: Shell) -> None:
    done = start(shell)
    assert (done.returncode, done.stdout.splitlines()[0], done.stderr) == (0, "started", "")
    inspected, ran = shell.calls
    assert inspected.endswith(" a:1 b:1")
    assert ran.startswith("run --rm --name p-test --pull never --network none ")
    assert ran.endswith(" --entrypoint true sha256:1")


def test_a_host_with_other_images_uses_one_of_them_and_without_any_nothing_is_started(
    shell: Shell,
) -> None:
    # Without --all, Docker 29 leaves out images without a tag.
    shell.docker("image-ls", '[ "$3" != --all ] || { echo sha256:8; echo sha256:9; }')
    assert start(shell, found="").stdout.startswith("started")
    assert shell.calls[-1].endswith(" sha256:8")
    shell.docker("image-ls", "")
    assert start(shell, found="").stdout.startswith("no image")


def test_an_image_without_the_program_shows_that_the_runtime_works(shell: Shell) -> None:
    error = 'runc create failed: exec: "true": executable file not found in $PATH'
    assert start(shell, run=f"echo 'docker: {error}'; exit 127").stdout.startswith("started")


def test_the_error_of_a_runtime_that_starts_nothing_is_the_last_line(shell: Shell) -> None:
    lines = ("WARNING: no swap", "docker: Error response from daemon: reopen fd 8: denied.", "")
    said = "\n".join([*lines, "Run 'docker run --help' for more information"])
    done = start(shell, run=f"cat <<'END'\n{said}\nEND\nexit 126")
    assert done.returncode == 126
    assert done.stderr.split("\n")[1] == "Error response from daemon: reopen fd 8: denied."
    assert "--help" not in done.stderr
    assert [call.split()[0] for call in shell.calls] == ["image", "run"]


def test_a_container_that_was_left_behind_is_replaced(shell: Shell) -> None:
    left = shell.directory / "left"
    left.touch()
    shell.docker("rm", f"rm {left}")
    (shell.directory / "sleep").write_text("#!/bin/sh\n")
    (shell.directory / "sleep").chmod(0o755)
    done = start(shell, run=f"[ ! -e {left} ] || {{ echo 'name is already in use'; exit 125; }}")
    assert done.stdout.startswith("started")
    assert "rm --force --volumes p-test" in shell.calls
