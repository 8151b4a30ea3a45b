"""The script that prepares a host, in real shells, with stand-ins for programs."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ktrdr.deployment.scripts.script import SENTINEL, Script, render, render_as_root
from tests.unit.deployment.prepare.conftest import BARE
from tests.unit.deployment.shell import SHELLS

# Records its arguments, and runs the file in `answers` that is named after it.
STAND_IN = """#!/bin/sh
here=$(dirname "$0")
name=$(basename "$0")
printf '%s\\n' "$name $*" >>"$here/calls"
[ ! -f "$here/answers/$name" ] || . "$here/answers/$name"
"""
PROGRAMS = (
    *("apt-get", "dpkg-query", "docker", "dockerd", "getent", "groupadd", "useradd", "usermod"),
    *("id", "chown", "journalctl", "nft", "sleep", "systemctl", "systemd-detect-virt"),
    *("systemd-escape", "timeout"),
)
MOUNT = "mnt-share.mount"


class Machine:
    """A machine whose /etc is a directory of the test, and whose programs are stand-ins."""

    def __init__(self, directory: Path, program: list[str]) -> None:
        self.program = program
        self.etc = directory / "etc"
        self.bin = directory / "bin"
        (self.bin / "answers").mkdir(parents=True)
        for name in PROGRAMS:
            (self.bin / name).write_text(STAND_IN)
            (self.bin / name).chmod(0o755)
        # By default all users exist, and everything is enabled and runs.
        self.answer("systemctl", 'case "$*" in *Timestamp*) date ;; esac')
        self.answer("systemd-escape", f"echo {MOUNT}")
        self.answer("timeout", 'shift; [ "$1" != KILL ] || shift 2; "$@"')
        self.answer("id", "echo 0")

    def answer(self, program: str, lines: str) -> None:
        (self.bin / "answers" / program).write_text(lines)

    @property
    def calls(self) -> list[str]:
        file = self.bin / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def called(self, beginning: str) -> bool:
        return any(call.startswith(beginning) for call in self.calls)

    def start(self, mode: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run_script(Script("scripts/prepare.sh", (mode, *arguments)))

    def run_script(
        self, script: Script, prepare: Callable[[], None] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.program, "-s"],
            input=render(script, {}).reveal(),
            env={
                **os.environ,
                "PATH": f"{self.bin}:{os.environ['PATH']}",
                "KTRDR_ETC": str(self.etc),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            preexec_fn=prepare,
        )

    def lines(self, mode: str, *arguments: str) -> list[str]:
        """Run the script, which must succeed; return what it prints."""
        done = self.start(mode, *arguments)
        assert done.returncode == 0, done.stderr
        *lines, last = done.stdout.splitlines()
        assert last == SENTINEL
        return lines

    def changes(self, mode: str, *arguments: str) -> list[str]:
        return [line[2:] for line in self.lines(mode, *arguments) if line.startswith("* ")]

    def error(self, *arguments: str) -> tuple[int, str]:
        done = self.start("apply", *arguments)
        return done.returncode, done.stderr.strip().splitlines()[-1]


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def machine(request, tmp_path: Path) -> Machine:
    return Machine(tmp_path, request.param)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# -------------------------------------------------------------------------------- the whole script


def everything(directory: Path) -> tuple[str, ...]:
    return (
        *("--docker-config", '{"a": 1}', '"a": 1'),
        *("--packages", "nftables, docker-compose-plugin (>= 2.38.0)"),
        "--docker",
        *("--firewall", "table inet ktrdr {}"),
        *("--user", "ktrdr", "10001"),
        *("--member", "deploy", "docker"),
        *("--directory", f"{directory}/work dir", ""),
        *("--recovery", f"{directory}/work dir", "ktrdr-core", "deploy"),
        *("--share", "/mnt/the share", "[Mount]\nWhat=core:/srv"),
    )


def test_a_preview_changes_nothing_and_names_every_change(machine, tmp_path) -> None:
    for program in ("getent", "nft", "systemctl"):
        machine.answer(program, "false")
    assert machine.changes("check", *everything(tmp_path)) == [
        f"write {machine.etc}/docker/daemon.json",
        "install nftables, docker-compose-plugin (>= 2.38.0)",
        "start Docker",
        "load the firewall rules",
        f"write {machine.etc}/ktrdr/firewall.nft",
        f"write {machine.etc}/systemd/system/ktrdr-firewall.service",
        "load the firewall rules at each start",
        "create the user ktrdr (10001), which cannot log in",
        "add the user deploy to the group docker",
        f"set up the directory {tmp_path}/work dir, owned by root",
        f"write {machine.etc}/systemd/system/ktrdr-core-recovery.service",
        "go on with a deploy after a restart of the host",
        f"write {machine.etc}/systemd/system/{MOUNT}",
        "mount /mnt/the share, now and before Docker starts",
    ]
    assert not machine.etc.exists()
    assert not (tmp_path / "work dir").exists()
    assert not machine.called("apt-get")
    assert not machine.called("useradd")
    read_only = ("systemctl is-", "systemctl show", "nft list")
    assert all(
        call.startswith(read_only)
        for call in machine.calls
        if call.startswith(("systemctl", "nft"))
    )


def test_a_second_run_changes_nothing(machine, tmp_path) -> None:
    machine.answer("id", "echo 0 docker")
    changes = machine.changes("apply", *everything(tmp_path))
    assert changes
    config = machine.etc / "docker/daemon.json"
    assert config.read_text() == '{"a": 1}\n'
    # The next plan installs nothing, and adds nothing to this file.
    again = everything(tmp_path)[5:]
    assert machine.changes("check", *again) == []
    assert machine.changes("apply", *again) == []


def test_a_changed_file_is_shown_with_its_changed_lines(machine) -> None:
    machine.lines("apply", "--firewall", "one\ntwo\nthree")
    shown = machine.lines("check", "--firewall", "one\n2\nthree")
    assert shown[:5] == [
        f"* write {machine.etc}/ktrdr/firewall.nft",
        *("     one", "    -two", "    +2", "     three"),
    ]


def test_an_unknown_option_is_refused(machine) -> None:
    assert machine.error("--nonsense") == (64, "there is no option --nonsense")


# ---------------------------------------------------------------------------------------- packages


def test_packages_are_installed_from_fresh_lists_without_recommended_ones(machine) -> None:
    assert machine.changes("apply", "--packages", "a, b (>= 2)") == ["install a, b (>= 2)"]
    update, install = [call for call in machine.calls if call.startswith("apt-get")]
    assert update.endswith(" update")
    assert "satisfy --yes --no-install-recommends" in install
    assert install.endswith(" a, b (>= 2)")


def test_apt_in_use_is_waited_for(machine) -> None:
    machine.answer(
        "apt-get",
        'case $* in *satisfy*) [ "$(grep -c satisfy "$here/calls")" -gt 2 ] || '
        '{ echo "E: Could not get lock /var/lib/apt/lists/lock."; exit 100; } ;; esac',
    )
    assert machine.changes("apply", "--packages", "a") == ["install a"]
    assert machine.calls.count("sleep 10") == 2


def test_apt_that_stays_in_use_is_not_waited_for_without_end(machine) -> None:
    machine.answer("apt-get", 'echo "E: Could not get lock /var/lib/apt/lists/lock"; exit 100')
    code, message = machine.error("--packages", "a")
    assert code == 70
    assert message.startswith("apt cannot install a: E: Could not get lock")
    assert machine.calls.count("sleep 10") < 60


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (
            "Reading lists\nE: Unable to locate package a\nE: Broken",
            "E: Unable to locate package a",
        ),
        (" satisfy:command-line : Depends: a (>= 2)\nE: Broken packages", "Depends: a (>= 2)"),
    ],
)
def test_a_failed_installation_says_why(machine, output, reason) -> None:
    machine.answer("apt-get", f"case $* in *satisfy*) echo '{output}'; exit 100 ;; esac")
    assert machine.error("--packages", "a") == (70, f"apt cannot install a: {reason}")


@pytest.mark.skipif(not shutil.which("apt-get"), reason="needs apt")
def test_apt_understands_the_packages_and_refuses_old_versions() -> None:
    apt = ["apt-get", "--simulate", "-o", "Debug::NoLocking=1", "satisfy"]
    subprocess.run([*apt, "apt, dpkg (>= 1.2)"], capture_output=True, check=True)
    done = subprocess.run(
        [*apt, "apt (>= 99.1)"], capture_output=True, text=True, check=False, env={"LC_ALL": "C"}
    )
    assert done.returncode == 100
    assert "Depends: apt (>= 99.1)" in done.stdout


def test_a_source_that_cannot_be_updated_does_not_matter_if_the_packages_are_there(machine) -> None:
    machine.answer("apt-get", "case $* in *update) echo E: broken; exit 100 ;; esac")
    assert machine.changes("apply", "--packages", "a") == ["install a"]


def test_a_repository_without_this_distribution_is_removed_again(machine) -> None:
    machine.answer(
        "apt-get",
        'case $* in *update) echo "E: The repository does not have a Release file" ;; '
        '*) echo "E: Unable to locate package a" ;; esac; exit 100',
    )
    key = machine.etc / "apt/keyrings/docker.asc"
    key.parent.mkdir(parents=True)
    key.write_text("key")
    repository = ("--repository", "https://example.test/linux", sha256("key"), "Types: deb")
    code, message = machine.error(*repository, "--packages", "a")
    assert (code, message.endswith("does not have a Release file")) == (70, True)
    assert not (machine.etc / "apt/sources.list.d/docker.sources").exists()
    machine.answer("apt-get", "")
    machine.lines("apply", *repository, "--packages", "a")
    assert (machine.etc / "apt/sources.list.d/docker.sources").read_text() == "Types: deb\n"


# ------------------------------------------------------------------------------------------ Docker


def test_dockers_file_is_kept_as_it_was_before(machine) -> None:
    config = machine.etc / "docker/daemon.json"
    config.parent.mkdir(parents=True)
    config.write_text('{"dns": ["10.0.0.1"]}')
    lines = machine.lines("apply", "--docker-config", '{"b": 2}', '"b": 2', "--docker")
    assert lines[:2] == [f"* write {config}", '    "b": 2'], "other values may be confidential"
    assert config.read_text() == '{"b": 2}\n'
    assert (config.parent / "daemon.json.before-ktrdr").read_text() == '{"dns": ["10.0.0.1"]}'
    assert "systemctl restart docker.service" in machine.calls


@pytest.mark.parametrize("before", ['{"dns": []}', None])
def test_a_file_that_docker_does_not_start_with_is_taken_back(machine, before) -> None:
    config = machine.etc / "docker/daemon.json"
    config.parent.mkdir(parents=True)
    if before:
        config.write_text(before)
    machine.answer("systemctl", 'case "$*" in restart*) exit 1 ;; *Timestamp*) date ;; esac')
    code, message = machine.error("--docker-config", "bad", "bad", "--docker")
    assert code == 70
    assert "Docker did not start with the new" in message
    assert (config.read_text() if config.exists() else None) == before
    assert machine.calls[-1] == "systemctl start docker.service"


def test_an_interrupted_run_is_finished_by_the_next_one(machine) -> None:
    # The file was written, and Docker not restarted.
    machine.lines("apply", "--docker-config", "{}", "{}")
    machine.answer("docker", "printf 'id1\\nid2\\n'")
    machine.answer("systemctl", 'case "$*" in *Timestamp*) echo "2020-01-01 00:00:00 UTC" ;; esac')
    assert machine.changes("check", "--docker") == ["restart Docker, with 2 running containers"]
    machine.answer("systemctl", 'case "$*" in *Timestamp*) echo "2099-01-01 00:00:00 UTC" ;; esac')
    assert machine.changes("check", "--docker") == []


def test_the_start_of_a_docker_that_may_wait_for_the_share_is_not_waited_for(machine) -> None:
    machine.answer("systemctl", 'case "$*" in is-active*) false ;; esac')
    assert machine.changes("apply", "--docker") == ["start Docker"]
    assert "systemctl enable --quiet --now --no-block docker.service" in machine.calls


# ---------------------------------------------------------------------------- users and directories


def test_a_user_with_the_number_stays(machine) -> None:
    machine.answer("getent", "echo other:x:10001:10001::/:/bin/sh")
    assert machine.changes("apply", "--user", "ktrdr", "10001") == []


def test_a_directory_is_given_to_its_owner_but_its_contents_are_not(machine, tmp_path) -> None:
    (tmp_path / "share").mkdir()
    machine.answer("id", "echo 10001")
    assert machine.changes("apply", "--directory", f"{tmp_path}/share", "10001") == [
        f"set up the directory {tmp_path}/share, owned by 10001"
    ]
    assert f"chown 10001:10001 {tmp_path}/share" in machine.calls


def test_a_directory_that_cannot_be_given_away_is_named(machine, tmp_path) -> None:
    machine.answer("chown", "exit 1")
    code, message = machine.error("--directory", f"{tmp_path}/share", "10001")
    assert code == 70
    assert message.endswith("only on the machine around this container")


# ------------------------------------------------------------------------- the share and the rules

SHARE = ("--share", "/mnt/share", "[Mount]")
NOT_MOUNTED = 'case "$*" in is-active*|is-enabled*) false ;; '


def test_the_share_is_mounted_and_docker_requires_it_from_then_on(machine) -> None:
    machine.answer("systemctl", f"{NOT_MOUNTED} esac")
    assert machine.changes("apply", *SHARE) == [
        f"write {machine.etc}/systemd/system/{MOUNT}",
        "mount /mnt/share, now and before Docker starts",
    ]
    assert machine.calls[-4:] == [
        *(
            "systemctl is-enabled --quiet mnt-share.mount",
            "systemctl enable --quiet mnt-share.mount",
        ),
        *("timeout 15 systemctl start mnt-share.mount", "systemctl start mnt-share.mount"),
    ]
    assert "systemctl daemon-reload" in machine.calls
    assert "systemd-escape --path --suffix=mount /mnt/share" in machine.calls


def test_a_changed_unit_does_not_unmount_a_share_in_use(machine) -> None:
    lines = machine.lines("apply", *SHARE)
    assert lines[-1] == "! /mnt/share stays mounted as it is until the host restarts"
    assert not machine.called("systemctl start")


def test_a_server_that_does_not_answer_yet_is_no_failure(machine) -> None:
    machine.answer("systemctl", f"{NOT_MOUNTED} esac")
    machine.answer("timeout", "exit 124")
    lines = machine.lines("apply", *SHARE)
    assert lines[-1].startswith("! /mnt/share is not mounted yet")


def test_a_mount_that_fails_is_an_error_with_its_reason(machine) -> None:
    machine.answer("systemctl", f"{NOT_MOUNTED} start*) exit 1 ;; esac")
    machine.answer(
        "journalctl", "echo Mounting; echo mount.nfs: access denied by server; echo Failed"
    )
    assert machine.error(*SHARE) == (
        70,
        "/mnt/share cannot be mounted: mount.nfs: access denied by server",
    )


def test_rules_that_were_flushed_are_loaded_again(machine) -> None:
    machine.lines("apply", "--firewall", "rules")
    machine.answer("nft", "case $1 in list) exit 1 ;; esac")
    assert machine.changes("check", "--firewall", "rules") == ["load the firewall rules"]
    assert machine.changes("apply", "--firewall", "rules") == ["load the firewall rules"]
    assert machine.calls.count("nft -f -") == 2


def test_rules_that_are_not_valid_are_not_written(machine) -> None:
    machine.answer(
        "nft",
        'case $1 in -f) printf "x:1:2: Error: syntax error\\ndrop it\\n^^^\\n" >&2; exit 1 ;; esac',
    )
    assert machine.error("--firewall", "rules") == (
        70,
        "nftables cannot load the firewall rules: x:1:2: Error: syntax error",
    )
    assert not machine.etc.exists(), "the next start loads the former rules"


def test_undo_removes_the_rules_and_the_mount_and_a_second_undo_nothing(machine) -> None:
    undo = ("--no-firewall", "--no-share", "/mnt/share")
    assert machine.changes("check", *undo) == []
    machine.lines("apply", "--firewall", "rules", *SHARE)
    assert len(machine.changes("check", *undo)) == 2
    assert len(machine.changes("apply", *undo)) == 2
    assert "systemctl disable --quiet --now ktrdr-firewall.service" in machine.calls
    assert f"systemctl disable --quiet --now {MOUNT}" in machine.calls
    assert [file for file in machine.etc.rglob("*") if file.is_file()] == []
    assert machine.changes("apply", *undo) == []


# -------------------------------------------------------------------------------- - root, facts


@pytest.mark.parametrize("uid", ["0", "1000"])
def test_another_user_than_root_uses_sudo_without_a_password(machine, tmp_path, uid) -> None:
    script = render_as_root(
        Script("scripts/prepare.sh", ("check", "--directory", f"{tmp_path}/a'b", ""))
    )
    machine.answer("id", f"echo {uid}")
    (machine.bin / "sudo").write_text(
        '#!/bin/sh\n[ "$1" = -n ] && shift && echo sudo && exec "$@"\n'
    )
    (machine.bin / "sudo").chmod(0o755)
    done = subprocess.run(
        [*machine.program, "-s"],
        input=script.reveal(),
        env={**os.environ, "PATH": f"{machine.bin}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = f"* set up the directory {tmp_path}/a'b, owned by root"
    assert done.stdout.splitlines() == [*(["sudo"] if uid != "0" else []), expected, SENTINEL]


def test_facts_are_printed_without_changing_anything(machine, tmp_path) -> None:
    machine.answer(
        "getent",
        'case $1 in ahosts) printf "10.0.0.7 STREAM x\\n10.0.0.7 DGRAM\\nfd00::7 RAW\\n" ;; esac',
    )
    machine.answer("dockerd", "echo Docker version 29.0.4, build 1")
    machine.answer("docker", 'case "$*" in compose*) echo 2.40.3 ;; esac')
    machine.answer("systemd-detect-virt", "echo lxc")
    done = machine.run_script(
        Script("scripts/prepare_facts.sh", (str(tmp_path), str(tmp_path), "core.lab.test"))
    )
    assert done.returncode == 0, done.stderr
    facts = dict(line.partition("=")[::2] for line in done.stdout.splitlines() if "=" in line)
    assert facts["peer core.lab.test"] == "10.0.0.7 fd00::7 "
    assert (facts["docker"], facts["compose"]) == ("29.0.4", "2.40.3")
    assert facts["container"] == "lxc"
    assert facts["first_uid"].isdigit()
    assert set(BARE) - {name for name in BARE if name.startswith("peer ")} <= set(facts)
    assert (facts["mounted"], facts["deployed"]) == ("", "")


def test_facts_of_a_machine_without_anything_are_printed_too(machine, tmp_path) -> None:
    for name in PROGRAMS:
        machine.answer(name, "exit 1")
    done = machine.run_script(
        Script("scripts/prepare_facts.sh", (str(tmp_path), str(tmp_path), "core.lab.test"))
    )
    assert done.returncode == 0, done.stderr
    assert "peer core.lab.test=\n" in done.stdout
