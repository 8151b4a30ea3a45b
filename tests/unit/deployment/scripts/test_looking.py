"""The scripts that look at hosts, run by a real shell, with a stand-in for Docker where needed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktrdr.deployment.hosts.host import DeployId
from ktrdr.deployment.scripts import docker, execute, history, logs, prune, removal, survey
from ktrdr.deployment.scripts.script import Script, render
from tests.unit.deployment.histories import FIRST_DAY, history_entry, history_lines

# Answers a command by the file of its name, and writes its arguments down.
DOCKER = """#!/bin/sh
here=$(dirname "$0")
printf '%s\\n' "$*" >>"$here/calls"
file="$here/answers/$1-$2"
[ -f "$file" ] || file="$here/answers/$1"
[ ! -f "$file" ] || . "$file"
"""


class Shell:
    """A host's shell.

    Attributes:
        place: Where `docker` and its answers are.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "answers").mkdir()
        (place / "docker").write_text(DOCKER)
        (place / "docker").chmod(0o755)

    def docker(self, command: str, answer: str) -> None:
        (self.place / "answers" / command).write_text(answer)

    @property
    def calls(self) -> list[str]:
        return (self.place / "calls").read_text().splitlines()

    def run(self, body: str, check: bool = True) -> list[str]:
        done = subprocess.run(
            ["sh", "-s"],
            input=render(Script(body), {}).reveal(),
            env={**os.environ, "PATH": f"{self.place}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=30,
            check=check,
        )
        return done.stdout.splitlines()[: -1 if check else None]


@pytest.fixture
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("host"))


@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(st.sampled_from("ab '\"`$\\()&;é"), min_size=1, max_size=12))
def test_files_that_changed_since_the_last_good_release_are_told(
    shell: Shell, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    workdir = tmp_path_factory.mktemp("opt") / name
    files = ["compose.yml", ".env.core", "monitoring/a b.yml", "monitoring/gone.yml"]
    for file in files:
        (workdir / file).parent.mkdir(parents=True, exist_ok=True)
        (workdir / file).write_text("as released\n")
    good = history_entry(1, configuration="c1", deploy=DeployId("r1", 'a"b', FIRST_DAY))
    lines = [*history_lines(good), *history_lines(history_entry(2, configuration="c2"))[:1]]
    events = [history.append(str(workdir), line) for line in lines]
    shell.run("\n".join([history.keep(str(workdir), files, "c1"), *events]))
    asked = survey.changed_files("core", str(workdir))
    assert shell.run(asked) == []
    (workdir / "compose.yml").write_text("edited   \n")
    (workdir / "monitoring/gone.yml").unlink()
    (workdir / "monitoring/new.yml").write_text("")
    (workdir / "own.txt").write_text("an operator's note, which is none of our business")
    os.utime(workdir / ".env.core", (0, 0))
    found = sorted(shell.run(asked))
    assert found == ["+ monitoring/new.yml", "- monitoring/gone.yml", "~ compose.yml"]


@pytest.mark.parametrize("there", [True, False])
def test_images_that_are_there_are_not_pulled_and_asked_for_once(shell: Shell, there: bool) -> None:
    marker = shell.place / "pulled"
    shell.docker("image-inspect", f"[ -e {marker} ] && echo '{{}}' || return 1")
    if there:
        marker.touch()
    looks = docker.unless_images_are_there(["a:1"], f"echo pulls; : >{marker}")
    found = shell.run(f"{looks}\n{docker.images_noted(['a:1'])}")
    assert found == (["{}"] if there else ["pulls", "{}"])
    assert len(shell.calls) == (1 if there else 2)


def test_where_nothing_was_deployed_no_file_is_told_of(shell: Shell, tmp_path: Path) -> None:
    assert shell.run(survey.changed_files("core", str(tmp_path))) == []
    assert shell.run(survey.changed_files("workers", str(tmp_path / "none"))) == []


def test_a_whole_look_needs_one_script(shell: Shell, tmp_path: Path) -> None:
    shell.docker("info", f"echo {tmp_path}")
    found = shell.run(survey.survey("core", "ktrdr-core", str(tmp_path / "not" / "there")))
    titles = [line.removeprefix("== ") for line in found if line.startswith("== ")]
    assert titles[:5] == ["clock", "lock", "history", "files", "disk"]
    assert titles[5:] == ["containers", "images", "delivery"]
    assert found[found.index("== lock") + 1] == "free"
    # Docker's directory and the work directory are both told of.
    disks = found[found.index("== disk") + 1 : found.index("== containers")]
    assert [line.split(" ", 2)[2] for line in disks] == [str(tmp_path)] * 2


def test_without_docker_the_look_fails_and_what_was_seen_before_stays(
    shell: Shell, tmp_path: Path
) -> None:
    shell.docker("ps", "exit 1")
    found = shell.run(survey.survey("workers", "ktrdr-workers", str(tmp_path)), check=False)
    assert "== disk" in found
    assert found[-1] == "== containers"


PS = "echo 0123456789ab db; echo ba9876543210 web"
TIME = "2026-11-24T06:00:00.000000001Z"


def test_each_line_says_what_service_wrote_it(shell: Shell) -> None:
    shell.docker("ps", PS)
    shell.docker("logs", f'eval id=\\${{$#}}; echo "{TIME} from $id"; echo "{TIME} | & \\\\" >&2')
    assert shell.run(logs.read("p", [], lines=7)) == [
        "#db",
        f"db/0123456789ab {TIME} from 0123456789ab",
        f"db/0123456789ab {TIME} | & \\",
        "#web",
        f"web/ba9876543210 {TIME} from ba9876543210",
        f"web/ba9876543210 {TIME} | & \\",
    ]
    assert "logs --timestamps --tail 7 0123456789ab" in shell.calls


def test_services_that_are_not_asked_for_are_only_named(shell: Shell) -> None:
    shell.docker("ps", PS)
    shell.docker("logs", f"echo '{TIME} x'")
    found = shell.run(logs.read("p", ["web", "we'b"], since="60s", lines=None))
    assert found == ["#db", "#web", f"web/ba9876543210 {TIME} x"]
    assert "logs --timestamps --since 60s --tail all ba9876543210" in shell.calls


def test_containers_that_start_are_followed_too_and_long_lines_come_in_pieces(
    shell: Shell,
) -> None:
    shell.docker("ps", PS)
    shell.docker("events", f"echo {'c' * 64} 1700000000 late")
    shell.docker(
        "logs",
        'case "$*" in\n'
        f"*--follow*db) ;;\n*--follow*0123456789ab) printf '{TIME} %05000d\\n' 0 ;;\n"
        f"*--follow*) echo '{TIME} live' ;;\nesac",
    )
    found = shell.run(logs.follow("p", [], lines=1))
    assert found[:3] == ["#db", "#web", logs.LIVE]
    live = found[3:]
    assert f"web/ba9876543210 {TIME} live" in live
    assert f"late/cccccccccccc {TIME} live" in live
    pieces = [line for line in live if line.startswith("db/")]
    assert [len(piece) for piece in pieces] == [16 + 3500, 16 + 5031 - 3500]
    assert f"logs --timestamps --follow --since 1700000000 {'c' * 64}" in shell.calls


def test_a_command_arrives_word_for_word_and_its_exit_code_comes_back(shell: Shell) -> None:
    shell.docker("ps", "echo 0123456789ab")
    shell.docker("exec", 'shift 2; for word; do echo "<$word>"; done')
    asked = execute.execute("p", "db", ["a b", "$HOME", "it's", "*", ""])
    assert shell.run(asked) == [execute.RUNS, "<a b>", "<$HOME>", "<it's>", "<*>", "<>"]
    shell.docker("exec", "exit 42")
    done = subprocess.run(
        ["sh", "-c", execute.attach("p", "db", ["sh"])],
        env={**os.environ, "PATH": f"{shell.place}:{os.environ['PATH']}"},
        check=False,
    )
    assert done.returncode == 42
    assert "exec -it 0123456789ab sh" in shell.calls


def test_without_a_container_the_services_that_run_are_named(shell: Shell) -> None:
    shell.docker("ps", 'case "$*" in *service=*) ;; *) echo web; echo db ;; esac')
    assert shell.run(execute.execute("p", "dv", ["ls"])) == [execute.NOT_RUNNING, "db", "web"]


def test_volumes_go_only_on_an_explicit_word(shell: Shell) -> None:
    for listing in ("ps", "network-ls", "volume-ls"):
        shell.docker(listing, "echo one; echo two")
    shell.run(removal.remove("p", volumes=False))
    assert [call for call in shell.calls if "rm" in call.split()] == [
        "rm --force one two",
        "network rm one two",
    ]
    shell.run(removal.remove("p", volumes=True))
    assert "volume rm one two" in shell.calls
    assert "rm --force --volumes one two" in shell.calls


def test_a_host_with_nothing_of_ours_is_left_alone(shell: Shell) -> None:
    shell.run(removal.remove("p", volumes=True))
    assert all(call.startswith(("ps ", "network ls", "volume ls")) for call in shell.calls)


def test_images_are_never_removed_by_force(shell: Shell, tmp_path: Path) -> None:
    shell.docker("image", "exit 1")
    kept = tmp_path / ".ktrdr" / "releases"
    kept.mkdir(parents=True)
    (kept / "old.tar.gz").write_text("")
    (kept / "new.tar.gz").write_text("")
    (tmp_path / ".ktrdr-staging").mkdir()
    said = shell.run(prune.remove(str(tmp_path), [("sha256:1", ("x:1",))], ["old.tar.gz"]))
    assert said == ["stays sha256:1"]
    assert shell.calls == ["image rm sha256:1", "image rm x:1"]
    assert [each.name for each in tmp_path.iterdir()] == [".ktrdr"]
    assert [each.name for each in kept.iterdir()] == ["new.tar.gz"]


def test_what_can_be_pruned_is_looked_for_in_one_script(shell: Shell, tmp_path: Path) -> None:
    shell.docker("image-ls", "echo sha256:b; echo sha256:a; echo sha256:b")
    shell.docker("ps", "echo c1")
    shell.docker("inspect", "echo sha256:a")
    kept = tmp_path / ".ktrdr" / "releases"
    kept.mkdir(parents=True)
    (kept / "one.tar.gz").write_text("12345")
    found = shell.run(prune.look(str(tmp_path)))
    assert found == ["== history", "== images", "== used", "sha256:a", "== kept",
                     "5 one.tar.gz", "== staged"]  # fmt: skip
    assert any(call.endswith("sha256:a sha256:b") for call in shell.calls)
