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


@pytest.mark.parametrize(
    ("store", "expected"),
    [("io.containerd.snapshotter.v1", {"docker", "image_store", "workdir"}), ("", None)],
)
def test_the_disk_of_containerds_image_store_is_measured_if_docker_uses_it(
    shell, tmp_path: Path, monkeypatch, store, expected
) -> None:
    # As if containerd's configuration named another directory.
    for name, answer in {
        "docker": f"28.5.2+dfsg4 v5.6.1 {store} {tmp_path}",
        "sed": str(tmp_path),
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{answer}'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = facts(shell, tmp_path, tmp_path)
    assert (found["docker"], found["compose"]) == ("28.5.2+dfsg4", "v5.6.1")
    measured = {name.removesuffix("_free_kb") for name in found if name.endswith("_free_kb")}
    assert measured == (expected or {"docker", "workdir"})


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
