"""Tests of day-2 operations: status, logs, exec, restart, stop, prune, down."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from lab.config import ROOT
from tests.e2e.conftest import BIN, Lab
from tests.e2e.leaks import leaks_in

WORKER = "backtest-worker-1"


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.2)


def test_status_after_a_deploy_is_healthy_without_drift(lab: Lab) -> None:
    said = lab.good("deploy", "status", "--json").json
    core, b, c = said["hosts"]
    assert [host["target"] for host in said["hosts"]] == ["core", "workers B", "workers C"]
    for host in (core, b, c):
        assert host["error"] is None
        assert host["unwell"] == []
        assert host["drift"] == []
        assert host["lock"] is None
        assert host["last"]["tag"] == lab.tag
        assert host["disks"]
    backend = next(each for each in core["services"] if each["service"] == "backend")
    assert backend["health"] == "healthy"
    assert backend["digest"].startswith("sha256:")
    shown = lab.good("deploy", "status", "core").out
    assert all(len(line) <= 80 for line in shown.splitlines()), shown


def test_status_shows_drift_and_does_not_read_the_vault(lab: Lab) -> None:
    lab.on("core", "sh", "-c", "echo '# by hand' >>/opt/ktrdr-core/.env.core")
    lab.on("B", "docker", "stop", f"ktrdr-workers-{WORKER}-1")
    nothing = {"KTRDR_LAB_VAULT": "/nonexistent"}
    drifted = lab.ktrdr("deploy", "status", "core", env=nothing)
    assert drifted.code == 9, drifted.text
    assert ".env.core differs from the release" in drifted.out
    unwell = lab.ktrdr("deploy", "status", "workers", "B", env=nothing)
    assert unwell.code == 8, unwell.text
    assert f"{WORKER} exited with code" in unwell.out
    lab.on("core", "sed", "-i", "/# by hand/d", "/opt/ktrdr-core/.env.core")
    lab.good("deploy", "restart", "workers", "B", "--service", WORKER, env=nothing)
    lab.good("deploy", "status")


def test_status_shows_the_other_hosts_if_one_is_unreachable(lab: Lab) -> None:
    away = "workers.B.host=nowhere.ktrdr.home.mynerd.place"
    inventory = {"KTRDR_INVENTORY_WORKERS_B_HOST": away.partition("=")[2]}
    seen = lab.ktrdr("deploy", "status", env=inventory)
    assert seen.code == 5, seen.text
    assert "backend " in seen.out
    assert "nowhere.ktrdr.home.mynerd.place" in seen.err
    logs = lab.ktrdr("deploy", "logs", "--tail", "1", env=inventory)
    assert logs.code == 5, logs.text
    assert "core/db " in logs.out


def test_logs_of_all_hosts_are_merged_by_time_and_contain_no_secret(lab: Lab) -> None:
    lines = [json.loads(line) for line in lab.good("deploy", "logs", "--json").out.splitlines()]
    times = [line["time"] for line in lines]
    assert times == sorted(times)
    assert {line["target"] for line in lines} == {"core", "workers B", "workers C"}
    hidden = {name: value for name, value in lab.fields.items() if name != "db_username"}
    assert leaks_in(json.dumps(lines, ensure_ascii=False), hidden) == []
    some = lab.good("deploy", "logs", "workers", "all", "--service", WORKER, "--grep", "registered")
    assert some.out
    assert all(f"/{WORKER} " in line and "registered" in line for line in some.out.splitlines())


def followers(key: str, lab: Lab) -> int:
    return lab.on(key, "ps", "ax", "-o", "args").count("docker logs --timestamps --follow")


def test_followed_logs_show_new_lines_and_leave_no_process_behind(lab: Lab) -> None:
    following = lab.start("deploy", "logs", "-f", "workers", "all", "--tail", "1")
    try:
        wait_until(lambda: followers("B", lab) > 0 and followers("C", lab) > 0, "both followed")
        lab.on("C", "docker", "restart", f"ktrdr-workers-{WORKER}-1")
        read_until(following, "Shutting down.*Uvicorn running")
        began = time.monotonic()
        following.send_signal(signal.SIGINT)
        assert following.wait(10) == 0
        assert time.monotonic() - began < 5
    finally:
        following.kill()
        following.communicate()
    wait_until(lambda: followers("B", lab) + followers("C", lab) == 0, "no follower is left")


def read_until(process: subprocess.Popen[bytes], wanted: str, text: str = "") -> str:
    """Read the output of a command until it contains a text."""
    assert process.stdout
    while not re.search(wanted, text, re.DOTALL):
        assert select.select([process.stdout], [], [], 30)[0], text
        data = os.read(process.stdout.fileno(), 65536)
        assert data, text
        text += data.decode()
    return text


def test_following_continues_after_the_last_line_when_a_connection_was_cut(lab: Lab) -> None:
    following = lab.start("deploy", "logs", "-f", "workers", "C", "--tail", "1")
    try:
        wait_until(lambda: followers("C", lab) > 0, "it is followed")
        sessions = lab.on("C", "pgrep", "-f", "^sshd(-session)?: .*@notty").split()
        lab.on("C", "kill", *sessions)
        told = read_until(following, "; reconnecting")
        assert "lost: workers C: the connection to" in told
        lab.on("C", "docker", "restart", f"ktrdr-workers-{WORKER}-1")
        text = read_until(following, "Shutting down.*Uvicorn running", told)
        assert "reconnected: workers C" in text
        following.send_signal(signal.SIGTERM)
        assert following.wait(10) == 0
    finally:
        following.kill()
        following.communicate()


def test_exec_runs_commands_in_containers_and_returns_their_exit_code(lab: Lab) -> None:
    odd = 'it\'s "$HOME" `x` \\ é'
    ran = lab.good("deploy", "exec", "core", "backend", "--", "printf", "%s\n", odd)
    assert ran.out == f"{odd}\n"
    ran = lab.ktrdr("deploy", "exec", "workers", "B", WORKER, "sh", "-c", "echo no >&2; exit 23")
    assert (ran.code, ran.err) == (23, "no\n")
    said = lab.good("deploy", "exec", "core", "backend", "--", "env").out
    assert "JWT_SECRET=•••\n" in said
    assert lab.fields["jwt_secret"] not in said
    refused = lab.ktrdr("deploy", "exec", "core", "bakend", "--", "true")
    assert refused.code == 2
    assert "did you mean backend?" in refused.err


def on_a_terminal(lab: Lab, *arguments: str, types: str = "") -> tuple[int, str]:
    """Run a command on a terminal of 80 columns; return exit code and output."""
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(ROOT)
        env = {**lab.env, "TERM": "xterm", "COLUMNS": "80"}
        os.execve(str(BIN / "ktrdr"), ["ktrdr", *arguments], env)
    os.write(terminal, types.encode())
    text = b""
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:
            break
        if not data:
            break
        text += data
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text.decode()


def test_a_shell_in_a_container_has_a_terminal(lab: Lab) -> None:
    code, text = on_a_terminal(
        lab, "deploy", "exec", "-it", "core", "db", "--", "sh", "-c", "tty; exit 3"
    )
    assert code == 3, text
    assert "/dev/pts/" in text


def test_stop_and_restart_follow_the_order_of_dependencies(lab: Lab) -> None:
    stopped = lab.good("deploy", "stop", "core", "--service", "db", "--service", "backend")
    assert stopped.err.index("stop backend") < stopped.err.index("stop db")
    assert "backend exited" in stopped.out
    assert "db exited" in stopped.out
    started = lab.good("deploy", "restart", "core", "--service", "backend", "--service", "db")
    assert started.err.index("restart db") < started.err.index("restart backend")
    assert "backend healthy" in started.out
    assert lab.good("deploy", "restart", "workers", "all", "--json").json["hosts"][1]["ok"]


def test_a_locked_host_is_not_changed(lab: Lab) -> None:
    holder = lab.start("deploy", "restart", "workers", "B")
    try:
        wait_until(
            lambda: lab.good("deploy", "lock", "show", "workers", "B", "--json").json["hosts"][0][
                "held"
            ],
            "the lock is held",
        )
        refused = lab.ktrdr("deploy", "stop", "workers", "B")
        assert refused.code == 9, refused.text
        assert ": restart" in refused.err
        assert holder.wait(120) == 0
    finally:
        holder.kill()
        holder.communicate()


def built(lab: Lab, base: str, name: str) -> str:
    """Build an image on a host that belongs to no release."""
    script = f"printf 'FROM {base}\nLABEL made={name}\n' | docker build --quiet --tag {name} -"
    return lab.on("C", "sh", "-c", script).strip()


def test_prune_keeps_images_that_run_or_that_a_rollback_needs(lab: Lab) -> None:
    image = lab.inspect("C")[WORKER]["Config"]["Image"]
    old = built(lab, image, f"{image.rpartition(':')[0]}:sha-0000000")
    built(lab, image, "somebody/else:1")
    records = "/opt/ktrdr-workers-c"
    lab.on(
        "C", "sh", "-c", f"mkdir -p {records}/.ktrdr-staging && echo x >{records}/.ktrdr-staging/x"
    )
    lab.on("C", "sh", "-c", f"echo x >{records}/.ktrdr/releases/0dd.tar.gz")
    would = lab.good("deploy", "prune", "workers", "C", "--dry-run", "--json").json["hosts"][0]
    assert would["configurations"] == ["0dd.tar.gz"]
    assert would["staged_kb"] > 0
    done = lab.good("deploy", "prune", "workers", "C", "--json").json["hosts"][0]
    assert [each["id"] for each in done["images"]] == [each["id"] for each in would["images"]]
    assert {each["id"]: each["removed"] for each in done["images"]}[old] is True
    assert "0dd" not in lab.on("C", "ls", f"{records}/.ktrdr/releases")
    left = lab.on("C", "docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split()
    assert image in left
    assert "somebody/else:1" in left
    assert f"{image.rpartition(':')[0]}:sha-0000000" not in left
    lab.on("C", "docker", "image", "rm", "somebody/else:1")


def test_down_requires_confirmation_and_a_deploy_restores_the_data(lab: Lab) -> None:
    refused = lab.ktrdr("deploy", "down", "workers", "C")
    assert refused.code == 2
    assert "2 containers and 1 network to remove" in refused.err
    code, text = on_a_terminal(lab, "deploy", "down", "core", "--volumes", types="corr\n")
    assert code == 130, text
    assert "postgres_data" in text
    assert len(lab.inspect("core")) == 5
    code, text = on_a_terminal(lab, "deploy", "down", "workers", "C", types="y\n")
    assert code == 0, text
    assert lab.inspect("C") == {}
    assert "ktrdr-workers" not in lab.on("C", "docker", "network", "ls")
    assert lab.ktrdr("deploy", "status", "workers", "C").code == 9
    lab.good("deploy", "workers", "C")
    lab.good("deploy", "status", "workers", "C")


@pytest.fixture(autouse=True)
def _nothing_of_ours_is_left_running(lab: Lab):
    yield
    for key in ("core", "B", "C"):
        assert "docker events" not in lab.on(key, "ps", "ax", "-o", "args"), key
