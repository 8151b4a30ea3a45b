"""Files of a release: fetched beside the current ones, then moved to their place."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest

from ktrdr.deployment.releases.release import pack_archive
from ktrdr.deployment.scripts.script import Script, repeat
from tests.unit.deployment.shell import SHELLS, Shell, write_script


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def shell(request, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("host"), request.param)


def stack(workdir: Path, *more: str) -> tuple[str, ...]:
    return (
        *("--project", "p", "--workdir", str(workdir), "--compose-file", "c.yml"),
        *("--env-file", ".env", "--managed-directory", "monitoring", *more),
    )


def fetch(workdir: Path, release: Mapping[str, bytes], *more: str) -> Script:
    digests = [f"{sha256(release[name]).hexdigest()}  {name}" for name in sorted(release)]
    options = (*stack(workdir, *more), "--digests", "\n".join(digests))
    return Script("scripts/fetch.sh", options, payload=pack_archive(release))


def apply(shell: Shell, workdir: Path, release: Mapping[str, bytes], *more: str) -> list[str]:
    """Run the application of a release, as the supervisor of a deploy does."""
    libraries = (
        *("output", "hooks", "stack", "release_files", "pin", "project", "recreation", "apply"),
    )
    body = '    set -f\n    recall=\n    apply_release "$@"'
    options = (*stack(workdir, *more), "--", *sorted(release))
    return shell.run(write_script(shell.directory, body, *libraries, arguments=options))


def section(printed: list[str], title: str) -> list[str]:
    rest = printed[printed.index(f"== {title}") + 1 :]
    return rest[: next((n for n, line in enumerate(rest) if line.startswith("== ")), None)]


def compose_reads(shell: Shell) -> str:
    """Return the directory whose files Compose hashed last."""
    call = [call for call in shell.calls if call.endswith("config --hash *")][-1]
    return call.partition(" -f ")[2].partition("/c.yml")[0]


def files_below(workdir: Path) -> set[str]:
    found = {str(p.relative_to(workdir)) for p in workdir.rglob("*") if p.is_file()}
    return {name for name in found if not name.startswith(".ktrdr/")}


def test_the_same_files_result_in_the_same_archive_readable_by_all_users() -> None:
    content = {"b/c.yml": b"2", "a.yml": b"1"}
    packed = pack_archive(content)
    assert packed == pack_archive(dict(reversed(content.items())))
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert [(member.name, member.mode) for member in tar] == [
            ("a.yml", 0o644),
            ("b/c.yml", 0o644),
        ]


def test_files_are_replaced_one_by_one_and_obsolete_ones_removed(shell, tmp_path: Path) -> None:
    workdir = tmp_path / "work dir"
    for name, text in {"a.yml": "old", "monitoring/gone \\n": "x", "notes": "mine"}.items():
        (workdir / name).parent.mkdir(parents=True, exist_ok=True)
        (workdir / name).write_text(text)
    mounted = (workdir / "monitoring").stat().st_ino
    release = {"a.yml": b"new", "monitoring/it's.yml": b"1"}
    assert section(shell.run(fetch(workdir, release)), "files") == [
        "+ a.yml",
        "+ monitoring/it's.yml",
        "- monitoring/gone \\n",
    ]
    assert (workdir / "a.yml").read_text() == "old", "a fetch changes nothing"
    apply(shell, workdir, release)
    assert files_below(workdir) == {"a.yml", "monitoring/it's.yml", "notes"}
    assert (workdir / "a.yml").read_text() == "new"
    assert (workdir / "monitoring").stat().st_ino == mounted, "containers have it mounted"
    assert section(shell.run(fetch(workdir, release)), "files") == []


def test_a_release_whose_files_are_in_place_is_not_unpacked(shell, tmp_path: Path) -> None:
    workdir = tmp_path / "it's work"
    release = {"a.yml": b"new", "monitoring/b.yml": b"1"}
    shell.run(fetch(workdir, release))
    assert compose_reads(shell) == f"{workdir}/.ktrdr-staging"
    apply(shell, workdir, release)
    # As if nothing could be unpacked.
    script = fetch(workdir, release)
    shell.run(Script(script.file, script.arguments, payload=b"no archive"))
    assert compose_reads(shell) == str(workdir)
    (workdir / "a.yml").write_text("by hand")
    assert section(shell.run(fetch(workdir, release)), "files") == ["+ a.yml"]
    assert compose_reads(shell) == f"{workdir}/.ktrdr-staging"


@pytest.mark.parametrize("release_changes", [True, False])
def test_the_compose_file_of_a_former_field_is_neither_read_nor_kept(
    shell, tmp_path: Path, release_changes: bool
) -> None:
    fields, release = "deploy/fields/core.yml", {"c.yml": b"new"}
    for name in (fields, "monitoring/gone.yml", *([] if release_changes else release)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(release.get(name, b"x"))
    managed = ("--managed-directory", "deploy/node", "--managed-directory", "deploy/fields")
    found = section(shell.run(fetch(tmp_path, release, *managed)), "files")
    assert [line for line in found if line.startswith("-")] == [
        "- monitoring/gone.yml",
        f"- {fields}",
    ]
    apply(shell, tmp_path, release, *managed)
    assert files_below(tmp_path) == {"c.yml"}
    assert not [call for call in shell.calls if fields in call]


def test_obsolete_files_are_removed_even_if_all_files_are_in_place(shell, tmp_path: Path) -> None:
    release = {"a.yml": b"new", "monitoring/b.yml": b"1"}
    for name, text in {**release, "monitoring/gone.yml": b"x"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text)
    assert section(shell.run(fetch(tmp_path, release)), "files") == ["- monitoring/gone.yml"]
    assert compose_reads(shell) == str(tmp_path)
    apply(shell, tmp_path, release)
    assert files_below(tmp_path) == set(release)


def test_files_that_an_interrupted_deploy_staged_are_not_used(shell, tmp_path) -> None:
    release = {"a.yml": b"new"}
    staging = tmp_path / ".ktrdr-staging"
    staging.mkdir()
    (staging / "a.yml").write_text("half")
    (tmp_path / "a.yml").write_text("new")
    shell.run(fetch(tmp_path, release))
    assert compose_reads(shell) == str(tmp_path)
    assert not staging.exists()


def test_a_failed_fetch_removes_the_staged_files(shell, tmp_path: Path) -> None:
    shell.docker("compose", "exit 3")
    done = shell.start(fetch(tmp_path, {"a.yml": b"new"}))
    assert done.returncode == 3
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------------------- images


@pytest.mark.parametrize("there", [True, False])
def test_present_images_are_not_pulled_and_inspected_once(shell, tmp_path, there) -> None:
    marker = shell.directory / "pulled"
    shell.docker("image-inspect", f"[ -e {marker} ] && echo 'id - os/cpu {{}}' || exit 1")
    shell.docker("compose", f': >{marker}; echo "$*"')
    if there:
        marker.touch()
    options = ("--image", "a:1", "--pull-missing", "one", "--pull-missing", "two")
    printed = shell.run(fetch(tmp_path, {}, *options))
    assert section(printed, "images") == ["a:1 - {}"]
    pulled = section(printed, "pull")
    assert len(pulled) == (0 if there else 1)
    assert all(line.endswith(" pull --policy missing one two") for line in pulled)
    asked = [call for call in shell.calls if call.startswith("image inspect")]
    assert len(asked) == (1 if there else 2)


def test_an_image_with_a_tag_that_can_move_is_always_pulled(shell, tmp_path) -> None:
    shell.docker("compose", 'echo "$*"')
    printed = shell.run(fetch(tmp_path, {}, "--image", "a:latest", "--pull-always", "one"))
    (pulled,) = section(printed, "pull")
    assert pulled.endswith(" pull --policy always one")
    assert [call for call in shell.calls if call.startswith("image inspect")]


def test_a_present_image_is_only_tagged(shell, tmp_path) -> None:
    shell.run(fetch(tmp_path, {}, "--pin", "ghcr.io/a/b:tag@sha256:0123"))
    assert shell.calls[:2] == [
        "image inspect ghcr.io/a/b@sha256:0123",
        "tag ghcr.io/a/b@sha256:0123 ghcr.io/a/b:tag",
    ]


@pytest.mark.parametrize(
    ("pin", "name"),
    [
        ("localhost:5000/a:tag", "localhost:5000/a"),
        ("localhost:5000/a", "localhost:5000/a"),
        ("redis", "redis"),
    ],
)
def test_an_image_without_a_name_is_found_by_its_digest(shell, tmp_path, pin, name) -> None:
    shell.docker("image-inspect", "[ $3 = sha256:0123 ]")
    shell.run(fetch(tmp_path, {}, "--pin", f"{pin}@sha256:0123"))
    assert shell.calls[:3] == [
        f"image inspect {name}@sha256:0123",
        "image inspect sha256:0123",
        f"tag sha256:0123 {pin}",
    ]


def test_a_missing_image_is_pulled_by_its_digest(shell, tmp_path) -> None:
    file = shell.directory / "file"
    shell.docker("image-inspect", "exit 1")
    shell.docker("compose", f'case "$*" in *-pin*) cat >{file} ;; esac')
    shell.run(fetch(tmp_path, {}, "--pin", "ghcr.io/a/b:tag@sha256:0123"))
    assert shell.calls[2:4] == [
        "compose -p p-pin -f - pull --quiet",
        "tag ghcr.io/a/b@sha256:0123 ghcr.io/a/b:tag",
    ]
    assert file.read_text() == 'services: {pinned: {image: "ghcr.io/a/b@sha256:0123"}}\n'


@pytest.mark.parametrize(("there", "asked"), [("b", True), ("b-2", False), ("", False)])
def test_surplus_services_are_asked_only_if_one_of_them_exists(
    shell, tmp_path, there, asked
) -> None:
    shell.docker("ps", "echo c1")
    label = f'echo \'{{"x":"1","com.docker.compose.service":"{there}"}}\''
    shell.docker("inspect", label if there else ":")
    shell.run(fetch(tmp_path, {}, "--surplus", "a", "--surplus", "b"))
    assert any("health=healthy" in call for call in shell.calls) == asked


# ------------------------------------------------------------------------------- Compose

BEGINNING = "compose -p p --project-directory {0} -f {0}/c.yml --env-file {0}/.env"


def compose_calls(shell: Shell) -> list[str]:
    return [call for call in shell.calls if call.startswith("compose")]


def test_each_call_of_compose_names_project_directory_file_and_settings(shell, tmp_path) -> None:
    apply(shell, tmp_path, {})
    assert compose_calls(shell) == [
        f"{BEGINNING.format(tmp_path)} up --detach --pull never --remove-orphans"
    ]


def test_profiles_and_overriding_files_keep_their_order(shell, tmp_path) -> None:
    more = ("--compose-file", "deploy/c.yml", "--profile", "scale-2", "--profile", "scale-3")
    apply(shell, tmp_path, {}, *more)
    (call,) = compose_calls(shell)
    assert f" -f {tmp_path}/c.yml -f {tmp_path}/deploy/c.yml --env-file " in call
    assert " --profile scale-2 --profile scale-3 up " in call


def test_a_single_service_leaves_the_others_unchanged(shell, tmp_path) -> None:
    apply(shell, tmp_path, {}, "--only", "db")
    beginning = BEGINNING.format(tmp_path)
    assert compose_calls(shell) == [f"{beginning} up --detach --pull never --no-deps db"]


@pytest.mark.parametrize("runs", [True, False])
def test_a_single_service_starts_dependencies_that_do_not_run(shell, tmp_path, runs) -> None:
    shell.docker("ps", 'case "$*" in *service=db*) echo id ;; esac' if runs else ":")
    apply(shell, tmp_path, {}, "--only", "backend", "--dependency", "db")
    alone = " --no-deps" if runs else ""
    beginning = BEGINNING.format(tmp_path)
    assert compose_calls(shell) == [f"{beginning} up --detach --pull never{alone} backend"]


def test_services_beyond_the_scale_are_removed_whatever_their_profile(shell, tmp_path) -> None:
    apply(shell, tmp_path, {}, *repeat("--surplus", ["w-2", "w-3"]), "--profile", "scale-1")
    end = " --profile * rm --stop --force w-2 w-3"
    assert compose_calls(shell)[-1] == f"{BEGINNING.format(tmp_path)}{end}"


def test_an_unknown_option_is_refused(shell, tmp_path) -> None:
    done = shell.start(fetch(tmp_path, {}, "--colour", "red"))
    assert (done.returncode, done.stderr) == (64, "there is no option --colour\n")
    assert list(tmp_path.iterdir()) == []
