"""Command lines, to the letter."""

from __future__ import annotations

import getpass
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from ktrdr.deployment.scripts import delivery, docker, host
from ktrdr.deployment.scripts import release as files
from ktrdr.deployment.scripts.compose import Compose
from ktrdr.deployment.scripts.script import Script, quote, render

CORE = Compose(
    project="ktrdr-core",
    directory="/opt/ktrdr-core",
    files="/opt/ktrdr-core",
    file="docker-compose.core.yml",
    env_file=".env.core",
)
BEGINNING = (
    "docker compose -p ktrdr-core --project-directory /opt/ktrdr-core "
    "-f /opt/ktrdr-core/docker-compose.core.yml --env-file /opt/ktrdr-core/.env.core"
)


def sh(script: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f"set -eu\n{script}"], capture_output=True, text=True, check=False
    )


def test_every_compose_call_names_project_directory_file_and_settings() -> None:
    assert CORE.pull(policy="missing") == f"{BEGINNING} pull --policy missing"
    assert CORE.pull(["db"], policy="always") == f"{BEGINNING} pull --policy always db"
    assert CORE.hashes() == f"{BEGINNING} config --hash '*'"
    assert CORE.up() == f"{BEGINNING} up --detach --pull never --remove-orphans"
    assert CORE.remove(["x"]) == (BEGINNING + " --profile '*' rm --stop --force x")


def test_all_is_no_service_of_compose() -> None:
    assert "all" not in CORE.up().split()


def test_a_single_service_leaves_others_alone_unless_what_it_needs_does_not_run() -> None:
    assert CORE.up("db") == f"{BEGINNING} up --detach --pull never --no-deps db"
    script = CORE.up("backend", dependencies=["db"])
    assert script.startswith(
        'if [ -n "$(docker ps --quiet --filter label=com.docker.compose.project'
    )
    assert f"{BEGINNING} up --detach --pull never --no-deps backend\nelse" in script
    assert f"{BEGINNING} up --detach --pull never backend\nfi" in script


def test_staged_files_are_read_from_where_they_are_and_mean_the_same_directory() -> None:
    staged = CORE.at('"$release"').hashes()
    assert "--project-directory /opt/ktrdr-core " in staged
    assert '-f "$release"/docker-compose.core.yml --env-file "$release"/.env.core ' in staged


def test_profiles_come_before_the_command() -> None:
    scaled = Compose("p", "/d", "/d", "f", "e", profiles=("scale-2", "scale-3"))
    assert " --profile scale-2 --profile scale-3 up " in scaled.up()


def test_a_path_with_spaces_and_quotes_stays_one_word() -> None:
    odd = Compose("p", "/o'dd path", quote("/o'dd path"), "f.yml", ".env")
    ran = sh(odd.up().replace("docker compose", "printf '%s\\n'"))
    assert "/o'dd path/f.yml" in ran.stdout.splitlines()


def test_containers_are_shown_without_their_environment() -> None:
    shown = docker.containers("ktrdr-core")
    assert "json .Config.Env" not in shown
    assert "{{json .}}" not in shown


def test_the_log_of_each_container_stands_under_its_id() -> None:
    assert docker.logs(["abc"], lines=5) == "echo '== abc'\ndocker logs --tail 5 abc 2>&1 || :"


def test_the_same_files_make_the_same_archive_readable_for_everyone() -> None:
    content = {"b/c.yml": b"2", "a.yml": b"1"}
    packed = files.archive(content)
    assert packed == files.archive(dict(reversed(content.items())))
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert [(member.name, member.mode) for member in tar] == [
            ("a.yml", 0o644),
            ("b/c.yml", 0o644),
        ]


def stage(workdir: Path, content: dict[str, bytes]) -> None:
    for name, text in content.items():
        path = Path(files.staging(str(workdir))) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)


def test_files_move_into_place_one_by_one_and_leftovers_go(tmp_path: Path) -> None:
    workdir = tmp_path / "work dir"
    for name, text in {"a.yml": "old", "monitoring/gone.yml": "x", "notes": "mine"}.items():
        (workdir / name).parent.mkdir(parents=True, exist_ok=True)
        (workdir / name).write_text(text)
    mounted = (workdir / "monitoring").stat().st_ino
    release = {"a.yml": b"new", "monitoring/it's.yml": b"1"}
    stage(workdir, release)
    reported = sh(files.report_and_keep(str(workdir), release, "monitoring/"))
    assert reported.stdout.splitlines() == [
        "+ a.yml",
        "+ monitoring/it's.yml",
        "- monitoring/gone.yml",
    ], reported.stderr
    assert (workdir / "a.yml").read_text() == "old", "looking changes nothing"
    placed = sh(files.place(str(workdir), release, "monitoring/"))
    assert placed.returncode == 0, placed.stderr
    found = {str(p.relative_to(workdir)) for p in workdir.rglob("*") if p.is_file()}
    assert found == {"a.yml", "monitoring/it's.yml", "notes"}
    assert (workdir / "a.yml").read_text() == "new"
    assert (workdir / "monitoring").stat().st_ino == mounted, "containers have it mounted"
    stage(workdir, release)
    assert sh(files.report_and_keep(str(workdir), release, "monitoring/")).stdout == ""


def staged(workdir: Path, release: dict[str, bytes]) -> subprocess.CompletedProcess[str]:
    """What a fetch does with the files: where they are, and which are to change."""
    body = [files.stage(str(workdir), release), f"echo {files.STAGED}"]
    body.append(files.report_and_keep(str(workdir), release, "monitoring/"))
    script = render(Script("\n".join(body), payload=files.archive(release)), {})
    return subprocess.run(["sh", "-c", script.reveal()], capture_output=True, text=True)


def test_a_release_that_is_in_place_is_not_unpacked(tmp_path: Path) -> None:
    workdir = tmp_path / "it's work"
    release = {"a.yml": b"new", "monitoring/b.yml": b"1"}
    first = staged(workdir, release)
    assert first.returncode == 0, first.stderr
    place = files.staging(str(workdir))
    assert first.stdout.splitlines()[:3] == [place, "+ a.yml", "+ monitoring/b.yml"]
    assert sh(files.place(str(workdir), release, "monitoring/")).returncode == 0
    # As if nothing could be unpacked.
    in_place = render(
        Script(f"{files.stage(str(workdir), release)}\necho {files.STAGED}"), {}
    ).reveal()
    assert sh(in_place).stdout.splitlines()[0] == str(workdir)
    (workdir / "a.yml").write_text("by hand")
    again = staged(workdir, release)
    assert again.stdout.splitlines()[:2] == [place, "+ a.yml"], again.stderr


def test_what_is_left_over_goes_where_all_files_are_in_place(tmp_path: Path) -> None:
    release = {"a.yml": b"new", "monitoring/b.yml": b"1"}
    for name, text in {**release, "monitoring/gone.yml": b"x"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text)
    found = staged(tmp_path, release)
    assert found.stdout.splitlines()[:2] == [str(tmp_path), "- monitoring/gone.yml"]
    assert sh(files.place(str(tmp_path), release, "monitoring/")).returncode == 0
    assert not (tmp_path / "monitoring/gone.yml").exists()
    assert (tmp_path / "monitoring/b.yml").exists()


def test_what_an_interrupted_deploy_has_staged_is_no_part_of_the_next(tmp_path: Path) -> None:
    release = {"a.yml": b"new"}
    stage(tmp_path, {"a.yml": b"half", "old.yml": b"x"})
    (tmp_path / "a.yml").write_text("new")
    assert staged(tmp_path, release).stdout.splitlines()[0] == str(tmp_path)
    assert not Path(files.staging(str(tmp_path))).exists()


@pytest.mark.parametrize(("there", "asked"), [("b", True), ("b-2", False), ("", False)])
def test_services_are_asked_only_where_one_of_them_is_there(there: str, asked: bool) -> None:
    labels = f'{{"x":"1","com.docker.compose.service":"{there}"}}'
    shown = f"found={quote(labels) if there else ''}"
    said = sh(f"{shown}\n{docker.where_there(['a', 'b'], 'echo asked')}").stdout
    assert ("asked" in said) == asked


def test_a_host_is_asked_for_all_facts_at_once(tmp_path: Path) -> None:
    script = host.facts(str(tmp_path / "new/work dir"), str(tmp_path), shared_is_mounted=False)
    facts = dict(line.partition("=")[::2] for line in sh(script).stdout.splitlines())
    assert facts["workdir"] == "writable"
    assert facts["shared"] in ("writable", "not-writable")
    assert int(facts["clock"]) > 1_700_000_000
    assert int(facts["workdir_free_kb"]) > 0
    assert facts["user"] == getpass.getuser()
    assert not (tmp_path / "new").exists(), "looking changes nothing"


def test_a_user_is_known_by_name_and_told_from_root(monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"set -eu\n{host.facts('/tmp', '/', shared_is_mounted=False)}"
    # Whoever runs the tests, this is somebody else than root.
    somebody = ("setpriv", "--reuid", "10001", "--regid", "10001", "--clear-groups")
    monkeypatch.setenv("USER", "ann")
    command = [*(somebody if os.geteuid() == 0 else ()), "sh", "-c", script]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout
    assert "user=ann\n" in said
    assert "workdir=writable\n" in said
    assert "shared=not-writable\n" in said


def test_a_file_in_the_place_of_a_directory_is_seen(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    script = host.facts(str(tmp_path / "file/inside"), str(tmp_path / "no"), shared_is_mounted=True)
    said = sh(script).stdout
    assert "workdir=not-a-directory" in said
    assert "shared=missing" in said


def test_a_directory_is_writable_only_where_a_file_can_be_made(tmp_path: Path) -> None:
    said = sh(host.facts("/proc/ktrdr", str(tmp_path), shared_is_mounted=False)).stdout
    assert "workdir=not-writable" in said, "root has the right to, and cannot all the same"
    host_itself = host.facts(str(tmp_path), str(tmp_path), shared_is_mounted=False)
    assert "workdir=writable" in sh(host_itself).stdout
    assert list(tmp_path.iterdir()) == [], "the probe is gone"


def test_an_empty_directory_of_the_hosts_own_disk_is_no_mount(tmp_path: Path) -> None:
    on_root = Path("/").stat().st_dev == tmp_path.stat().st_dev
    said = sh(host.facts("/tmp", str(tmp_path), shared_is_mounted=True)).stdout
    assert ("shared=not-mounted" in said) == on_root


def test_what_overrides_a_compose_file_follows_it() -> None:
    in_memory = Compose("p", "/d", "/d", "f.yml", ".env", overrides=("deploy/tmpfs/f.yml",))
    assert "-f /d/f.yml -f /d/deploy/tmpfs/f.yml --env-file /d/.env config" in in_memory.hashes()


def test_a_host_says_which_files_in_memory_are_there(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(delivery, "ROOT", str(tmp_path))
    (tmp_path / "ktrdr-core/backend").mkdir(parents=True)
    script = delivery.presence("ktrdr-core")
    listed = "printf 'grafana\\nbackend\\nbackend\\n'"
    script = script.replace(script[script.index("docker") : script.index(" | sort")], listed)
    said = sh(script).stdout.splitlines()
    assert said == ["present backend", "absent grafana"]


def test_a_host_says_what_its_memory_is(tmp_path: Path) -> None:
    facts = host.facts("/tmp", "/tmp", shared_is_mounted=False)
    said = sh(f"{facts}\n{delivery.memory()}").stdout
    assert "\nmemory=" in said
    assert "\nswap=" in said
