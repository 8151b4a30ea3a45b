"""Tests of expected errors: one sentence, a documented exit code, and no change."""

from __future__ import annotations

import os
import pty
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab import nodes, registries, ssh_keys
from lab.config import DOMAIN, ROOT
from lab.engine import docker
from lab.shell import run, wait_until
from tests.e2e.conftest import BIN, Lab, Ran, node
from tests.e2e.leaks import leaks_in

CORE = f"backend.{DOMAIN}"


def state_of(lab: Lab, key: str) -> dict[str, Any]:
    return {
        service: (each["Id"], each["State"]["StartedAt"])
        for service, each in lab.inspect(key).items()
    }


def refused(lab: Lab, code: int, *words: str, ran: Ran) -> None:
    """Verify exit code, words of the single error line, and absence of secrets."""
    assert ran.code == code, ran.text
    errors = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, ran.text
    for word in words:
        assert word in ran.err, ran.text
    assert any(line.startswith("hint: ") for line in ran.err.splitlines()), ran.text
    assert leaks_in(ran.text, {k: v for k, v in lab.fields.items() if k != "db_username"}) == []


# ---- 2: usage


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["workers", "Bb"], ["there is no node 'Bb'", "did you mean B?", "B, C"]),
        (["core", "bakcend"], ["there is no service 'bakcend'", "did you mean backend?", "all"]),
        (["core", "all", "--profile", "big"], ["there is no profile 'big'"]),
        (["core", "all", "--set", "core.hots=x"], ["core.hots"]),
    ],
)
def test_an_unknown_name_is_refused_with_the_valid_names(
    lab: Lab, command: list[str], words: list[str]
) -> None:
    ran = lab.ktrdr("deploy", *command)
    code = 3 if "--set" in command else 2
    refused(lab, code, *words, ran=ran)


def test_a_scale_beyond_three_is_refused(lab: Lab) -> None:
    ran = lab.ktrdr("deploy", "workers", "B", "--scale", "4")
    assert ran.code == 2
    assert "1<=x<=3" in ran.err


# ---- 3: configuration


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("core: [\n", ["inventory.yml:2", "not YAML"]),
        ("core:\n  host: a\nworkers: {}\nnodes: {}\n", ["inventory.yml:4", "nodes"]),
        ("core:\n  host: a\n  ports: {backend: many}\n", ["inventory.yml:3", "ports.backend"]),
        ("core:\n  host: a\n  ports: {backend: 3000}\n", ["inventory.yml:3", "3000"]),
    ],
)
def test_an_error_in_the_inventory_names_file_and_line(
    lab: Lab, tmp_path: Path, content: str, words: list[str]
) -> None:
    path = tmp_path / "inventory.yml"
    path.write_text(content)
    refused(lab, 3, *words, ran=lab.ktrdr("deploy", "core", "all", "--inventory", str(path)))


@pytest.fixture
def checkout(lab: Lab, tmp_path: Path) -> Path:
    place = tmp_path / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(place)], check=True)
    return place


def test_uncommitted_changes_are_refused_without_a_terminal(lab: Lab, checkout: Path) -> None:
    (checkout / ".env.core").write_text("IMAGE_NAME=x\n")
    before = state_of(lab, "core")
    ran = lab.ktrdr("deploy", "core", "all", cwd=checkout, env={"KTRDR_DEPLOY_TAG": ""})
    refused(lab, 3, "uncommitted changes (.env.core)", "--tag", ran=ran)
    assert state_of(lab, "core") == before


def test_an_unpushed_commit_is_refused_without_a_terminal(lab: Lab, checkout: Path) -> None:
    git = ["git", "-C", str(checkout), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "unpushed"], check=True)
    ran = lab.ktrdr("deploy", "core", "all", cwd=checkout, env={"KTRDR_DEPLOY_TAG": ""})
    refused(lab, 3, "is not on a remote branch", "--tag", ran=ran)


def test_uncommitted_changes_require_confirmation_on_a_terminal(lab: Lab, checkout: Path) -> None:
    (checkout / ".env.core").write_text("IMAGE_NAME=x\n")
    env = {**lab.env, "KTRDR_DEPLOY_TAG": ""}
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(checkout)
        os.execve(BIN / "ktrdr", ["ktrdr", "deploy", "core", "all"], env)
    output = b""
    answered = False
    while True:
        try:
            piece = os.read(terminal, 1024)
        except OSError:
            break
        output += piece
        if not answered and b"[y/N]" in output:
            os.write(terminal, b"n\n")
            answered = True
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert b"uncommitted changes (.env.core)" in output
    assert b"the command was cancelled, nothing was changed" in output


# ---- 4: secrets


def test_a_missing_op_is_reported(lab: Lab, tmp_path: Path) -> None:
    for program in ("git", "ssh"):
        (tmp_path / program).symlink_to(shutil.which(program) or program)
    ran = lab.ktrdr("deploy", "core", "all", env={"PATH": str(tmp_path)})
    refused(lab, 4, "op is not installed on this machine", "1Password CLI", ran=ran)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("signed out", "1Password is not signed in"),
        ("not signed in", "1Password is not signed in"),
        ("session expired", "or its session has expired"),
        ("prompt dismissed", "prompt was dismissed"),
        ("prompt timeout", "or not answered in time"),
        ("no app", "cannot reach the 1Password app"),
        ("no account", "op has no 1Password account"),
        ("rate limited", "Your client has been rate-limited"),
        ("several accounts", "which of several 1Password accounts"),
        ("unknown", "something happened that nobody has seen before"),
    ],
)
def test_each_refusal_of_the_vault_has_its_own_message(
    lab: Lab, tmp_path: Path, state: str, words: str
) -> None:
    env = lab.write_vault(tmp_path / "vault.json", state=state)
    refused(lab, 4, words, ran=lab.ktrdr("deploy", "core", "all", env=env))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("secrets.vault=Other", 'this 1Password account has no vault "Other"'),
        ("secrets.item=other", 'the vault "KTRDR Homelab Secrets" has no item "other"'),
        ("secrets.account=other", 'op has no 1Password account "other"'),
    ],
)
def test_a_wrong_vault_and_a_wrong_item_have_different_messages(
    lab: Lab, setting: str, words: str
) -> None:
    refused(lab, 4, words, ran=lab.ktrdr("deploy", "core", "all", "--set", setting))


def test_all_problems_of_fields_are_reported_together(lab: Lab, tmp_path: Path) -> None:
    changes = {"db_username": None, "db_password": "", "jwt_secret": "short", "ghcr_token": "abc"}
    env = lab.write_vault(tmp_path / "vault.json", changes)
    refused(
        lab,
        4,
        "db_username is missing",
        "db_password is empty",
        "jwt_secret is shorter than 32 characters",
        "ghcr_token is shorter than",
        ran=lab.ktrdr("deploy", "core", "all", env=env),
    )


def test_a_duplicated_field_is_reported(lab: Lab, tmp_path: Path) -> None:
    from lab import vault

    fields: Any = [{"label": name, "value": value} for name, value in lab.fields.items()]
    fields.append({"label": "db_password", "value": "another one", "section": "Old"})
    vault.write_file(tmp_path / "vault.json", fields)
    env = {"KTRDR_LAB_VAULT": str(tmp_path / "vault.json")}
    ran = lab.ktrdr("deploy", "core", "all", env=env)
    refused(lab, 4, "cannot be used: db_password occurs 2 times", ran=ran)


# ---- 5: hosts that cannot be reached


def ssh_config(path: Path, *lines: str) -> dict[str, str]:
    """Write the lab's SSH configuration with other options for the core host."""
    body = "".join(f"    {line}\n" for line in lines)
    path.write_text(f"Host {CORE}\n{body}\n{ssh_keys.CONFIG.read_text()}")
    return {"KTRDR_SSH_CONFIG": str(path)}


@contextmanager
def silent_server() -> Iterator[int]:
    """Provide a port that accepts connections but sends nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_an_unknown_host_name_is_reported(lab: Lab) -> None:
    ran = lab.ktrdr("deploy", "core", "all", "--set", "core.host=no-such-host.invalid")
    refused(lab, 5, "no-such-host.invalid", "name", ran=ran)


def test_a_refused_connection_is_reported(lab: Lab, tmp_path: Path) -> None:
    env = ssh_config(tmp_path / "config", f"Port {closed_port()}")
    refused(lab, 5, CORE, "refuse", ran=lab.ktrdr("deploy", "core", "all", env=env))


def test_a_changed_host_key_is_reported(lab: Lab, tmp_path: Path) -> None:
    other = tmp_path / "other"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other))
    known = tmp_path / "known_hosts"
    known.write_text(f"{CORE} {' '.join(Path(f'{other}.pub').read_text().split()[:2])}\n")
    env = ssh_config(tmp_path / "config", f'UserKnownHostsFile "{known}"')
    refused(lab, 5, CORE, "key", "changed", ran=lab.ktrdr("deploy", "core", "all", env=env))


def test_a_refused_user_key_is_reported(lab: Lab, tmp_path: Path) -> None:
    other = tmp_path / "other"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other))
    env = ssh_config(tmp_path / "config", f'IdentityFile "{other}"')
    config = tmp_path / "config"
    config.write_text(
        config.read_text().replace(f'IdentityFile "{ssh_keys.DIRECTORY}/id_ed25519"', "")
    )
    ran = lab.ktrdr("deploy", "core", "all", env=env)
    refused(lab, 5, CORE, "key", ran=ran)
    assert "changed" not in ran.err


def test_a_host_that_does_not_answer_is_reported(lab: Lab, tmp_path: Path) -> None:
    with silent_server() as port:
        options = ("HostName 127.0.0.1", f"Port {port}", "ConnectTimeout 1")
        env = ssh_config(tmp_path / "config", *options)
        refused(lab, 5, CORE, "answer", ran=lab.ktrdr("deploy", "core", "all", env=env))


# ---- 6: hosts that cannot run the stack


def test_all_problems_of_a_host_are_reported_together_and_nothing_changes(lab: Lab) -> None:
    plugin = "/usr/local/lib/docker/cli-plugins/docker-compose"
    before = state_of(lab, "C")
    lab.on("C", "mv", plugin, f"{plugin}.away")
    lab.on("C", "sh", "-c", "mkdir -p /opt/full && mount -t tmpfs -o size=64k tmpfs /opt/full")
    try:
        ran = lab.ktrdr(
            *("deploy", "workers", "C", "--set", "workers.C.workdir=/opt/full/ktrdr"),
            *("--set", "workers.C.shared_directory=/mnt/nothing"),
        )
    finally:
        lab.on("C", "mv", f"{plugin}.away", plugin)
        lab.on("C", "sh", "-c", "umount /opt/full && rmdir /opt/full")
    words = (
        f"workers-c.{DOMAIN} is not ready",
        "Docker Compose is not installed",
        "the disk of the work directory has too little free space: 0 MiB free, 2048 needed",
        "the shared directory /mnt/nothing is missing",
    )
    refused(lab, 6, *words, ran=ran)
    assert state_of(lab, "C") == before


def test_an_old_compose_and_a_read_only_work_directory_are_reported(lab: Lab) -> None:
    plugin = "/usr/local/lib/docker/cli-plugins/docker-compose"
    old = (
        '#!/bin/sh\ncase "$1" in docker-cli-plugin-metadata) echo '
        """'{"SchemaVersion": "0.1.0", "Vendor": "x", "Version": "2.20.0"}' """
        ";; *) echo 2.20.0 ;; esac\n"
    )
    lab.on("C", "mv", plugin, f"{plugin}.away")
    lab.on("C", "sh", "-c", f"cat >{plugin} <<'X'\n{old}X\nchmod +x {plugin}")
    try:
        ran = lab.ktrdr("deploy", "workers", "C", "--set", "workers.C.workdir=/proc/ktrdr")
    finally:
        lab.on("C", "mv", f"{plugin}.away", plugin)
    refused(lab, 6, "Docker Compose 2.20.0 is older than 2.38.0", "/proc/ktrdr", ran=ran)


def test_a_stopped_docker_daemon_is_reported(lab: Lab) -> None:
    nodes.stop_docker(node("C"))
    try:
        ran = lab.ktrdr("deploy", "workers", "C")
    finally:
        nodes.start_docker(node("C"))
        wait_until("Docker is back", lambda: bool(lab.on("C", "docker", "ps", "-q", check=False)))
    refused(lab, 6, "the Docker daemon is not running", "systemctl start docker", ran=ran)
    lab.good("deploy", "workers", "C")


# ---- 7: images


def test_a_missing_image_is_reported(lab: Lab) -> None:
    before = state_of(lab, "core")
    ran = lab.ktrdr("deploy", "core", "all", "--tag", "sha-0000000")
    refused(lab, 7, "sha-0000000 is not in the registry", "CI", ran=ran)
    assert state_of(lab, "core") == before


def test_a_refused_registry_login_is_reported(lab: Lab, tmp_path: Path) -> None:
    env = lab.write_vault(tmp_path / "vault.json", {"ghcr_token": "ghp_outdated"})
    ran = lab.ktrdr("deploy", "core", "all", "--tag", "sha-0000000", env=env)
    refused(lab, 7, "rejects the login", "ghcr_token", ran=ran)


def test_an_unreachable_registry_is_reported(lab: Lab) -> None:
    run(docker(), "stop", "--time", "1", registries.GHCR)
    try:
        ran = lab.ktrdr("deploy", "core", "all", "--tag", "sha-0000000")
    finally:
        run(docker(), "start", registries.GHCR)
        registries.wait_until_ready()
    refused(lab, 7, "cannot reach the registry", ran=ran)


def test_these_errors_have_changed_nothing_on_the_host(lab: Lab) -> None:
    for key, place in (("core", "core"), ("B", "workers-b"), ("C", "workers-c")):
        assert ".ktrdr-staging" not in lab.on(key, "ls", "-a", f"/opt/ktrdr-{place}")
    assert lab.good("deploy", "core", "all", "--json").result["changed"] is False
