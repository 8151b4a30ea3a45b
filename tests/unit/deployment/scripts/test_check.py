"""Facts about a host, as ``check.sh`` prints them in a real shell on this machine."""

from __future__ import annotations

import getpass
import os
import subprocess
from pathlib import Path

import pytest

from ktrdr.deployment.scripts.script import Script, render
from tests.unit.deployment.shell import SHELLS


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def shell(request) -> list[str]:
    return [*request.param, "-s"]


def facts(
    shell: list[str], workdir: object, shared: object, *more: str, shared_is_mounted: bool = False
) -> dict[str, str]:
    arguments = (
        *("--workdir", str(workdir), "--shared", str(shared), "--container-uid", "10001"),
        *("--shared-is-mounted", "yes" if shared_is_mounted else "no", *more),
    )
    script = render(Script("scripts/check.sh", arguments), {}).reveal()
    done = subprocess.run(shell, input=script, capture_output=True, text=True, check=True, cwd="/")
    return dict(line.partition("=")[::2] for line in done.stdout.splitlines() if "=" in line)


def test_one_script_prints_all_facts(shell, tmp_path: Path) -> None:
    found = facts(shell, tmp_path / "new/work dir", tmp_path)
    assert found["workdir"] == "writable"
    assert found["shared"] in ("writable", "not-writable")
    assert int(found["clock"]) > 1_700_000_000
    assert int(found["workdir_free_kb"]) > 0
    assert found["user"] == getpass.getuser()
    assert found["lacks"] == ""
    assert not (tmp_path / "new").exists(), "the check changes nothing"


def test_another_user_than_root_is_named_and_has_fewer_permissions(shell, monkeypatch) -> None:
    # Another user than root, even if root runs the tests.
    as_user = ["setpriv", "--reuid", "10001", "--regid", "10001", "--clear-groups"]
    monkeypatch.setenv("USER", "ann")
    found = facts([*(as_user if os.geteuid() == 0 else []), *shell], "/tmp", "/")
    assert found["user"] == "ann"
    assert found["workdir"] == "writable"
    assert found["shared"] == "not-writable"


def test_a_file_in_the_place_of_a_directory_is_reported(shell, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = facts(shell, tmp_path / "file/inside", tmp_path / "no", shared_is_mounted=True)
    assert found["workdir"] == "not-a-directory"
    assert found["shared"] == "missing"


def test_a_directory_is_writable_only_if_a_file_can_be_created(shell, tmp_path: Path) -> None:
    found = facts(shell, "/proc/ktrdr", tmp_path)
    assert found["workdir"] == "not-writable", "root has permission, and cannot write all the same"
    assert facts(shell, tmp_path, tmp_path)["workdir"] == "writable"
    assert list(tmp_path.iterdir()) == [], "the probe is gone"


def test_an_empty_directory_of_the_hosts_own_disk_is_not_a_mount(shell, tmp_path: Path) -> None:
    on_root = Path("/").stat().st_dev == tmp_path.stat().st_dev
    found = facts(shell, "/tmp", tmp_path, shared_is_mounted=True)
    assert (found["shared"] == "not-mounted") == on_root


def test_the_file_system_for_secrets_and_swap_are_printed(shell) -> None:
    found = facts(shell, "/tmp", "/tmp", "--memory", "/run/ktrdr")
    assert found["memory"]
    assert found["swap"]
    assert "memory" not in facts(shell, "/tmp", "/tmp")


def test_ports_lock_and_connections_are_printed_on_request(shell, tmp_path: Path) -> None:
    # No program listens on port 1.
    found = facts(shell, tmp_path, "/tmp", "--ports", "yes", "--reach", "127.0.0.1:1")
    assert "listening" in found
    assert found["lock"].strip() == "free"
    assert found["reaches 127.0.0.1:1"].startswith("1 ")
    assert "refused" in found["reaches 127.0.0.1:1"]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch) -> Path:
    """Return a directory of programs that are found before those of this machine."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return directory


def write_program(file: Path, *lines: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    file.chmod(0o755)


@pytest.mark.parametrize(
    ("root", "kind"),
    [
        ("/var/lib/docker", ""),
        ("/mnt/disk/docker", ""),
        ("/var/snap/docker/common/var-lib-docker", "snap"),
        ("/home/ann/.local/share/docker", "rootless"),
        ("/var/lib/containers/storage", "podman"),  # Docker's program, and the socket of Podman
    ],
)
def test_dockers_that_cannot_run_the_stacks_are_told_by_their_directory(
    shell, programs, root, kind
) -> None:
    write_program(programs / "docker", f'[ "$1" != info ] || echo "29.0.4 2.40.3 {root}"')
    found = facts(shell, "/tmp", "/tmp")
    assert (found["docker"], found["docker_kind"]) == ("29.0.4", kind)


def test_the_snap_is_told_by_its_program(shell, programs, tmp_path) -> None:
    write_program(tmp_path / "root/usr/bin/snap", "exit 1")
    (programs / "docker").symlink_to(tmp_path / "root/usr/bin/snap")
    assert facts(shell, "/tmp", "/tmp")["docker_kind"] == "snap"


def test_podman_in_the_place_of_docker_is_told_by_its_version(shell, programs) -> None:
    write_program(
        programs / "docker",
        'case $1 in --version) echo "podman version 5.4.2" ;; info) echo "Error: template" >&2; '
        "exit 125 ;; esac",
    )
    found = facts(shell, "/tmp", "/tmp")
    assert (found["docker"], found["docker_kind"]) == ("down", "podman")


def test_a_docker_that_does_not_respond_is_not_waited_for(shell, programs) -> None:
    write_program(programs / "timeout", "exit 137")
    write_program(programs / "docker", "exit 0")
    assert facts(shell, "/tmp", "/tmp")["docker"] == "waiting"


def test_dockers_networks_and_the_routes_are_printed_on_request(shell, programs) -> None:
    write_program(
        programs / "docker",
        'case "$1 $2" in "network ls") echo 1 ;;',
        '"network inspect") echo "a 0123 - 172.19.0.0/16" ;; esac',
    )
    write_program(
        programs / "ip",
        "cat <<END",
        "default via 10.0.0.1 dev eth0",
        "172.19.0.0/16 via 10.0.0.9 dev eth0 proto static",
        "100.64.0.7 dev tailscale0 table 52",
        "local 127.0.0.1 dev lo table local",
        "unreachable 10.9.0.0/16",
        "END",
    )
    found = facts(shell, "/tmp", "/tmp", "--ports", "yes")
    assert found["networks"] == "a 0123 - 172.19.0.0/16|"
    assert found["routes"] == "172.19.0.0/16 eth0|100.64.0.7 tailscale0|"
    assert "routes" not in facts(shell, "/tmp", "/tmp")
