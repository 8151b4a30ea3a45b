"""Queries and maintenance scripts in real shells, with a stand-in for Docker."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktrdr.deployment.execute import RUNS, attach_command
from ktrdr.deployment.logs import LIVE
from ktrdr.deployment.scripts.script import Script, repeat
from tests.unit.deployment.sample_hosts import CORE
from tests.unit.deployment.shell import SHELLS, Shell

NOTE = '{"id":"x"}'


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def shell(request, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("host"), request.param)


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Hold the host's lock, as scripts that change something require."""
    file = workdir / ".ktrdr/lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as held:
        held.write(f"1 {NOTE}\n")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(st.sampled_from("ab '\"`$\\()&;é"), min_size=1, max_size=12))
def test_files_that_differ_from_the_kept_configuration_are_printed(
    shell: Shell, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    workdir = tmp_path_factory.mktemp("opt") / name
    files = ["compose.yml", ".env.core", "monitoring/a b.yml", "monitoring/gone.yml"]
    for file in files:
        (workdir / file).parent.mkdir(parents=True, exist_ok=True)
        (workdir / file).write_text("as released\n")
    record = ("--workdir", str(workdir), "--event", "{}", "--keep", "c1", "--", *files)
    shell.run(Script("scripts/record.sh", record))
    asked = Script("scripts/changed_files.sh", (str(workdir), "c1", "monitoring"))
    assert shell.run(asked) == ["== files"]
    (workdir / "compose.yml").write_text("edited   \n")
    (workdir / "monitoring/gone.yml").unlink()
    (workdir / "monitoring/new.yml").write_text("")
    (workdir / "own.txt").write_text("an operator's own note")
    os.utime(workdir / ".env.core", (0, 0))
    changed = ["+ monitoring/new.yml", "- monitoring/gone.yml", "~ compose.yml"]
    assert sorted(shell.run(asked)[1:]) == changed
    asked = Script("scripts/changed_files.sh", (str(workdir), "c1"))
    assert sorted(shell.run(asked)[1:]) == changed[1:]
    (workdir / "deploy/fields").mkdir(parents=True)
    (workdir / "deploy/fields/core.yml").write_text("")
    managed = ("deploy/node", "monitoring", "deploy/fields")
    asked = Script("scripts/changed_files.sh", (str(workdir), "c1", *managed))
    assert sorted(shell.run(asked)[1:]) == ["+ deploy/fields/core.yml", *changed]


def test_without_a_kept_configuration_no_file_is_printed(shell: Shell, tmp_path: Path) -> None:
    asked = Script("scripts/changed_files.sh", (str(tmp_path / "none"), "c1", "monitoring"))
    assert shell.run(asked) == ["== files"]


def status(workdir: Path) -> Script:
    return Script("scripts/status.sh", (str(workdir), "ktrdr-core", "/run/ktrdr/x", "100"))


def test_one_script_prints_the_status_of_a_host(shell: Shell, tmp_path: Path) -> None:
    shell.docker("info", f"echo {tmp_path}")
    found = shell.run(status(tmp_path / "not" / "there"))
    titles = [line.removeprefix("== ") for line in found if line.startswith("== ")]
    assert titles == [
        *("clock", "lock", "history", "kept", "unfinished", "disk"),
        *("containers", "images", "delivery"),
    ]
    assert found[found.index("== lock") + 1] == "free"
    # Both Docker's directory and the work directory are printed.
    disks = found[found.index("== disk") + 1 : found.index("== containers")]
    assert [line.split(" ", 2)[2] for line in disks] == [str(tmp_path)] * 2


def test_without_docker_the_status_fails_after_the_sections_that_need_none(
    shell: Shell, tmp_path: Path
) -> None:
    shell.docker("ps", "exit 1")
    done = shell.start(status(tmp_path))
    assert done.returncode == 1
    assert "== disk" in done.stdout
    assert done.stdout.endswith("\n== containers\n")


def test_present_and_absent_files_in_memory_are_printed(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "backend").mkdir()
    listed = "printf 'grafana\\nbackend\\nbackend\\n'"
    shell.docker("ps", f'case "$*" in *place.mynerd.ktrdr.secrets*) {listed} ;; esac')
    arguments = ("/nowhere", "ktrdr-core", str(tmp_path), "100")
    found = shell.run(Script("scripts/status.sh", arguments))
    assert found[-2:] == ["present backend", "absent grafana"]


def test_containers_are_printed_without_their_environment(shell: Shell) -> None:
    shell.docker("ps", "echo 0123456789ab")
    shell.run(Script("scripts/verify.sh", ("ktrdr-core",)))
    (shown,) = [call for call in shell.calls if call.startswith("inspect")]
    assert "json .Config.Env" not in shown
    assert "{{json .}}" not in shown


def test_the_log_of_each_container_has_a_section_named_by_its_id(shell: Shell) -> None:
    shell.docker("logs", 'echo "$*"; echo wrong >&2')
    assert shell.run(Script("scripts/container_logs.sh", ("5", "abc", "def"))) == [
        *("== abc", "logs --tail 5 abc", "wrong"),
        *("== def", "logs --tail 5 def", "wrong"),
    ]


def test_each_health_document_is_on_a_line_of_its_own(shell: Shell) -> None:
    shell.docker("ps", 'case "$*" in *health=healthy*) echo 1 one; echo 2 two; echo 3 db ;; esac')
    shell.docker("exec", r"""printf '%s\n' '{"a":"line\nbreak"}'""")
    health = ("homelab/scripts/service_health.sh",)
    found = shell.run(Script("scripts/verify.sh", ("p", "one", "two"), extensions=health))
    answers = found[found.index("== answers") + 1 :]
    assert sorted(answers) == [f'{name} {{"a":"line\\nbreak"}}' for name in ("one", "two")]
    assert any("exec 1 python3 -I -S -c" in call for call in shell.calls)


def test_the_registry_is_asked_for_images_and_for_some_only_if_they_are_missing(
    shell: Shell,
) -> None:
    shell.docker("image", '[ "$3" = there:1 ]')
    shell.docker("compose", 'echo "WARNING: Error loading config file: denied" >&2; '
                 'case $(cat) in *bad*) echo "no  manifest"; exit 1 ;; esac; '
                 "echo '  image: x@sha256:abc'")  # fmt: skip
    arguments = (
        *repeat("--ask", ["a:1", "bad:1"]),
        *repeat("--ask-if-missing", ["there:1", "c:1"]),
    )
    found = shell.run(Script("scripts/ask_registry.sh", arguments))
    assert sorted(found) == ["a:1 0 sha256:abc", "bad:1 1 no  manifest", "c:1 0 sha256:abc"]


# As docker-buildx prints the record of a build for two platforms, in both versions of its format.
VCS = {"revision": "a" * 40, "source": "https://github.com/acme/ktrdr"}
PROVENANCE = json.dumps(
    {
        "linux/amd64": {
            "SLSA": {
                "materials": [{"digest": {"sha256": "0" * 64}}],
                "metadata": {"https://mobyproject.org/buildkit@v1#metadata": {"vcs": VCS}},
            }
        },
        "linux/arm64": {
            "SLSA": {"runDetails": {"metadata": {"buildkit_metadata": {"vcs": VCS}}}},
        },
    },
    indent=2,
)


@pytest.mark.parametrize(
    ("answer", "revision"),
    [
        (f"cat <<'END'\n{PROVENANCE}\nEND", " " + "a" * 40),
        ("echo {}", ""),
        ("echo \"docker: 'buildx' is not a docker command.\" >&2; exit 1", ""),
    ],
)
def test_the_commit_in_the_record_of_a_build_is_printed_if_it_can_be_read(
    shell: Shell, answer: str, revision: str
) -> None:
    shell.docker("compose", "echo '  image: x@sha256:abc'")
    shell.docker("buildx", answer)
    found = shell.run(Script("scripts/ask_registry.sh", ("--ask", "a:1")))
    assert found == [f"a:1 0 sha256:abc{revision}"]
    assert "buildx imagetools inspect --format {{json .Provenance}} a:1" in shell.calls


PS = "echo 0123456789ab db; echo ba9876543210 web"
TIME = "2026-11-24T06:00:00.000000001Z"


def logs(*arguments: str) -> Script:
    return Script("scripts/logs.sh", ("--project", "p", *arguments))


def test_each_log_line_names_its_service(shell: Shell) -> None:
    shell.docker("ps", PS)
    shell.docker("logs", f'eval id=\\${{$#}}; echo "{TIME} from $id"; echo "{TIME} | & \\\\" >&2')
    assert shell.run(logs("--lines", "7")) == [
        "#db",
        f"db/0123456789ab {TIME} from 0123456789ab",
        f"db/0123456789ab {TIME} | & \\",
        "#web",
        f"web/ba9876543210 {TIME} from ba9876543210",
        f"web/ba9876543210 {TIME} | & \\",
    ]
    assert "logs --timestamps --tail 7 0123456789ab" in shell.calls


def test_unwanted_services_are_only_named(shell: Shell) -> None:
    shell.docker("ps", PS)
    shell.docker("logs", f"echo '{TIME} x'")
    found = shell.run(logs("--lines", "all", "--since", "60s", "--", "web", "we'b"))
    assert found == ["#db", "#web", f"web/ba9876543210 {TIME} x"]
    assert "logs --timestamps --since 60s --tail all ba9876543210" in shell.calls


def test_new_containers_are_followed_and_long_lines_are_split(
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
    found = shell.run(logs("--lines", "1", "--follow", "yes"))
    assert found[:3] == ["#db", "#web", LIVE]
    live = found[3:]
    assert f"web/ba9876543210 {TIME} live" in live
    assert f"late/cccccccccccc {TIME} live" in live
    pieces = [line for line in live if line.startswith("db/")]
    assert [len(piece) for piece in pieces] == [16 + 3500, 16 + 5031 - 3500]
    assert f"logs --timestamps --follow --since 1700000000 {'c' * 64}" in shell.calls


def test_a_command_keeps_its_words_and_returns_its_exit_code(shell: Shell) -> None:
    shell.docker("ps", "echo 0123456789ab")
    shell.docker("exec", 'shift 2; for word; do echo "<$word>"; done')
    asked = Script("scripts/exec.sh", ("p", "db", "a b", "$HOME", "it's", "*", ""))
    assert shell.run(asked) == [RUNS, "<a b>", "<$HOME>", "<it's>", "<*>", "<>"]
    shell.docker("exec", "exit 42")
    done = subprocess.run(
        ["sh", "-c", attach_command(CORE, "db", ("sh", "-c", "it's"))],
        env={**os.environ, "PATH": f"{shell.directory}:{os.environ['PATH']}"},
        check=False,
    )
    assert done.returncode == 42
    assert "exec -it 0123456789ab sh -c it's" in shell.calls


def test_without_a_container_the_running_services_are_printed(shell: Shell) -> None:
    shell.docker("ps", 'case "$*" in *service=*) ;; *) echo web; echo db ;; esac')
    assert shell.run(Script("scripts/exec.sh", ("p", "dv", "ls"))) == [
        "== not running",
        "db",
        "web",
    ]


def remove_stack(workdir: Path, volumes: str) -> Script:
    options = ("--project", "p", "--workdir", str(workdir), "--note", NOTE, "--volumes", volumes)
    return Script("scripts/remove_stack.sh", options)


def test_volumes_are_removed_only_on_request(shell: Shell, tmp_path: Path) -> None:
    for listing in ("ps", "network-ls", "volume-ls"):
        shell.docker(listing, "echo one; echo two")
    with locked(tmp_path):
        shell.run(remove_stack(tmp_path, "no"))
        assert [call for call in shell.calls if "rm" in call.split()] == [
            "rm --force one two",
            "network rm one two",
        ]
        shell.run(remove_stack(tmp_path, "yes"))
    assert "volume rm one two" in shell.calls
    assert "rm --force --volumes one two" in shell.calls


def test_a_host_without_our_resources_stays_unchanged(shell: Shell, tmp_path: Path) -> None:
    with locked(tmp_path):
        shell.run(remove_stack(tmp_path, "yes"))
    assert all(call.startswith(("ps ", "network ls", "volume ls")) for call in shell.calls)


def test_nothing_changes_without_the_lock(shell: Shell, tmp_path: Path) -> None:
    assert shell.start(remove_stack(tmp_path, "yes")).returncode == 74
    prune = ("--workdir", str(tmp_path), "--note", NOTE, "--image", "sha256:1")
    assert shell.start(Script("scripts/prune.sh", prune)).returncode == 74
    for script in (
        Script("scripts/stop.sh", (str(tmp_path), NOTE, "id")),
        Script("scripts/restart.sh", (str(tmp_path), "p", NOTE, "{}", "id")),
    ):
        assert shell.start(script).returncode == 74
    assert shell.calls == []


def test_images_are_never_removed_by_force(shell: Shell, tmp_path: Path) -> None:
    shell.docker("image", "echo 'conflict: it is used' >&2; exit 1")
    kept = tmp_path / ".ktrdr" / "releases"
    kept.mkdir(parents=True)
    (kept / "old.tar.gz").write_text("")
    (kept / "new.tar.gz").write_text("")
    (tmp_path / ".ktrdr-staging").mkdir()
    options = ("--workdir", str(tmp_path), "--note", NOTE, "--file", "old.tar.gz")
    with locked(tmp_path):
        said = shell.run(Script("scripts/prune.sh", (*options, "--image", "sha256:1 x:1 y:1")))
    assert said == ["stays sha256:1"]
    assert shell.calls == ["image rm sha256:1", "image rm x:1 y:1", "image inspect sha256:1"]
    assert [each.name for each in tmp_path.iterdir()] == [".ktrdr"]
    assert [each.name for each in kept.iterdir()] == ["new.tar.gz"]


def test_an_image_that_goes_with_its_last_tag_does_not_stay(shell: Shell, tmp_path: Path) -> None:
    shell.docker("image", 'echo "Error response from daemon: No such image: $3" >&2; exit 1')
    options = ("--workdir", str(tmp_path), "--note", NOTE, "--image", "sha256:1 x:1 x@sha256:1")
    with locked(tmp_path):
        assert shell.run(Script("scripts/prune.sh", options)) == []


def test_images_without_a_tag_are_listed(shell: Shell, tmp_path: Path) -> None:
    shell.run(Script("scripts/list_unused.sh", (str(tmp_path),)))
    assert "image ls --all --quiet --no-trunc" in shell.calls


def test_containers_are_stopped_in_parallel_and_a_failure_is_reported(
    shell: Shell, tmp_path: Path
) -> None:
    shell.docker("stop", '[ "$2" != two ] || exit 3')
    with locked(tmp_path):
        done = shell.start(Script("scripts/stop.sh", (str(tmp_path), NOTE, "one", "two", "three")))
    assert done.returncode == 3
    assert sorted(shell.calls) == ["stop one", "stop three", "stop two"]


def test_one_script_lists_what_can_be_pruned(shell: Shell, tmp_path: Path) -> None:
    shell.docker("image-ls", "echo sha256:b; echo sha256:a; echo sha256:b")
    shell.docker("ps", "echo c1")
    shell.docker("inspect", "echo sha256:a")
    kept = tmp_path / ".ktrdr" / "releases"
    kept.mkdir(parents=True)
    (kept / "one.tar.gz").write_text("12345")
    found = shell.run(Script("scripts/list_unused.sh", (str(tmp_path),)))
    assert found == ["== history", "== images", "== used", "sha256:a", "== kept",
                     "5 one.tar.gz", "== staged"]  # fmt: skip
    assert any(call.endswith("sha256:a sha256:b") for call in shell.calls)


def test_the_resources_of_a_project_are_listed(shell: Shell) -> None:
    for listing in ("ps", "network-ls", "volume-ls"):
        shell.docker(listing, f"echo {listing}-1")
    assert shell.run(Script("scripts/list_stack.sh", ("p",))) == [
        *("== containers", "ps-1", "== networks", "network-ls-1", "== volumes", "volume-ls-1")
    ]


@pytest.mark.parametrize(
    ("question", "statement"),
    [
        ("migrations", "SELECT name FROM schema_migrations"),
        ("max-connections", "SHOW max_connections"),
    ],
)
def test_the_database_is_queried_in_its_container(shell: Shell, question, statement) -> None:
    script = Script("homelab/scripts/query_database.sh", ("ktrdr-core", question))
    done = shell.start(script)
    assert (done.returncode, done.stderr) == (1, "the database does not run\n")
    shell.docker("ps", "echo 0123456789ab")
    shell.docker("exec", 'echo "$7"')
    assert shell.run(script) == [statement]
