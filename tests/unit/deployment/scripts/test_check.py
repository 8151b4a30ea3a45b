"""Facts about a host, as ``check.sh`` prints them in a real shell on this machine."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ktrdr.deployment.scripts.script import Script, render
from tests.unit.deployment.scripts.confinement import (
    OPEN_BY_HANDLE_AT,
    enter_user_namespace,
    refuse_open_by_handle_at,
)
from tests.unit.deployment.shell import SHELLS

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or OPEN_BY_HANDLE_AT is None, reason="needs root on x86-64 or ARM64"
)


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def shell(request) -> list[str]:
    return [*request.param, "-s"]


def facts(
    shell: list[str],
    workdir: object,
    shared: object,
    *more: str,
    shared_is_mounted: bool = False,
    prepare: Callable[[], None] | None = None,
) -> dict[str, str]:
    arguments = (
        *("--workdir", str(workdir), "--shared", str(shared), "--container-uid", "10001"),
        *("--shared-is-mounted", "yes" if shared_is_mounted else "no", *more),
    )
    script = render(Script("scripts/check.sh", arguments), {}).reveal()
    done = subprocess.run(
        shell,
        input=script,
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
        preexec_fn=prepare,
    )
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


@needs_root
def test_a_bind_mount_of_the_same_device_is_a_mount(shell, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "with space"
    source.mkdir()
    target.mkdir()
    mount = f'mount --bind "{source}" "{target}" && exec "$@"'
    in_mount_namespace = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    assert facts([*in_mount_namespace, *shell], "/tmp", target, shared_is_mounted=True)[
        "shared"
    ] in ("writable", "not-writable")
    beside = facts([*in_mount_namespace, *shell], "/tmp", source, shared_is_mounted=True)
    assert beside["shared"] == "not-mounted"


@pytest.mark.parametrize("content", [".ktrdr-share", "data"])
def test_a_directory_with_data_or_the_mark_of_the_backend_is_in_use(
    shell, tmp_path: Path, content: str
) -> None:
    (tmp_path / content).mkdir()
    found = facts(shell, "/tmp", tmp_path, shared_is_mounted=True)
    assert found["shared"] in ("writable", "not-writable")


@needs_root
def test_a_host_on_which_files_can_be_opened_by_handle_can_run_an_nfs_server(shell) -> None:
    assert facts(shell, "/tmp", "/tmp")["handles"] == "opened"
    # A file system without handles.
    assert facts(shell, "/tmp", "/proc")["handles"] == "Operation not supported"
    assert "handles" not in facts(shell, "/tmp", "/tmp", shared_is_mounted=True)


@needs_root
def test_a_host_whose_seccomp_profile_refuses_the_call_cannot_run_an_nfs_server(shell) -> None:
    found = facts(shell, "/tmp", "/tmp/missing", prepare=refuse_open_by_handle_at)
    assert found["handles"] == "Operation not permitted"


@needs_root
def test_an_unprivileged_container_cannot_run_an_nfs_server_and_names_the_owner(shell) -> None:
    found = facts(shell, "/tmp", "/tmp", prepare=enter_user_namespace)
    assert (found["handles"], found["owner"]) == ("Operation not permitted", "110001")


@needs_root
def test_a_user_without_the_capability_learns_no_more_than_the_kernel_tells(shell) -> None:
    as_user = ["setpriv", "--reuid", "10001", "--regid", "10001", "--clear-groups"]
    # Kernels before 6.11 notice the missing capability first.
    assert facts([*as_user, *shell], "/tmp", "/tmp")["handles"] in ("opened", "unknown")
    refused = facts([*as_user, *shell], "/tmp", "/tmp", prepare=refuse_open_by_handle_at)
    assert refused["handles"] == "unknown"


def test_without_perl_nothing_is_known(shell, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "perl").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "perl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert facts(shell, "/tmp", "/tmp")["handles"] == "unknown"


def test_the_owner_is_the_same_user_outside_containers(shell) -> None:
    assert facts(shell, "/tmp", "/tmp")["owner"] == "10001"


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
