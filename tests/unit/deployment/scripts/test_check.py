"""Facts about a host, as ``check.sh`` prints them in a real shell on this machine."""

from __future__ import annotations

import getpass
import os
import re
import subprocess
import sys
from collections.abc import Callable
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


def test_memory_and_processors_are_printed(shell) -> None:
    found = facts(shell, "/tmp", "/tmp")
    total = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    assert total
    assert found["memory_kb"] == total[1]
    assert found["processors"] == str(len(os.sched_getaffinity(0)))


# ------------------------------------------------------------------------------- names of hosts


@pytest.fixture
def resolver(tmp_path: Path) -> Callable[..., list[str]]:
    """Return a prefix that runs a command with other files in /etc, and a DNS server.

    The server knows ``dns.lab.test``, and /etc/hosts ``Hosts.lab.test`` and ``hosts``.
    """
    namespaces = ["unshare", *([] if os.geteuid() == 0 else ["-r"]), "-m", "-n"]
    mount = "ip link set lo up && mount --bind {0}/hosts /etc/hosts && "
    mount += 'mount --bind {0}/resolv.conf /etc/resolv.conf && shift && exec "$@"'
    server = [sys.executable, str(Path(__file__).with_name("dns_server.py")), "dns.lab.test"]
    (tmp_path / "hosts").write_text("10.1.2.3\tother Hosts.lab.test\thosts\n")

    def run_with(nameserver: str = "127.0.0.1") -> list[str]:
        (tmp_path / "resolv.conf").write_text(f"nameserver {nameserver}\n")
        command = [*namespaces, "sh", "-ec", mount.format(tmp_path), "sh", "-", *server]
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
            pytest.skip("namespaces are not permitted here")
        return command

    return run_with


@pytest.mark.parametrize(
    ("name", "more", "answer"),
    [
        ("hosts.lab.test", (), "no"),
        ("hosts", (), "no"),
        ("printer.local", (), "no"),
        # The host asks DNS servers for other names, as containers do.
        ("dns.lab.test", (), None),
        ("nowhere.lab.test", (), None),
        # A check, unlike a deploy, asks them for every name that the host knows.
        ("dns.lab.test", ("--ports", "yes"), "yes"),
        ("hosts.lab.test", ("--ports", "yes"), "no"),
        ("nowhere.lab.test", ("--ports", "yes"), None),
    ],
)
def test_names_that_only_the_host_knows_are_found(shell, resolver, name, more, answer) -> None:
    found = facts([*resolver(), *shell], "/tmp", "/tmp", "--resolve", name, *more)
    assert found.get(f"resolves {name}") == answer


def test_a_name_that_dns_servers_know_as_well_is_good(shell, resolver, tmp_path) -> None:
    command = resolver()
    (tmp_path / "hosts").write_text("10.1.2.3 dns.lab.test\n")
    found = facts([*command, *shell], "/tmp", "/tmp", "--resolve", "dns.lab.test")
    assert found["resolves dns.lab.test"] == "yes"


@pytest.mark.parametrize(("code", "answer"), [(0, "yes"), (1, "no"), (127, "unknown")])
def test_systemd_resolved_is_asked_without_what_it_adds(
    shell, resolver, tmp_path, monkeypatch, code, answer
) -> None:
    """Its own server answers from /etc/hosts, and containers do not ask it."""
    (tmp_path / "resolvectl").write_text(f'#!/bin/sh\necho "$*" >{tmp_path}/asked\nexit {code}\n')
    (tmp_path / "resolvectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    command = resolver("127.0.0.53")
    found = facts([*command, *shell], "/tmp", "/tmp", "--resolve", "hosts.lab.test")
    assert found["resolves hosts.lab.test"] == answer
    asked = (tmp_path / "asked").read_text()
    assert asked == "query --synthesize=no --protocol=dns hosts.lab.test\n"
