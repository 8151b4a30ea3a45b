"""Tests of the guarantees of a deploy, on real hosts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab.config import ROOT
from tests.e2e.conftest import BIN, Deployment, Lab
from tests.e2e.leaks import CommandLineSampler, leaks_in, leaks_in_files

# Directories to which deploys and hosts write. Docker's own files are searched separately, because
# they contain the environment of containers; see docs/secrets.md.
SCANNED = (
    "opt",
    "root",
    "home",
    "tmp",
    "etc",
    "run",
    "var/log",
    "var/tmp",
    "srv",
    "mnt",
    "dev/shm",
)


def hidden(lab: Lab) -> dict[str, str]:
    """Return the secrets that may appear nowhere; a user name is not secret."""
    return {name: value for name, value in lab.fields.items() if name != "db_username"}


def test_containers_receive_every_secret_byte_for_byte(lab: Lab) -> None:
    wanted = {name: value.encode() for name, value in lab.fields.items()}
    places = {
        ("core", "db"): {"POSTGRES_USER": "db_username"},
        ("core", "grafana"): {"GF_SECURITY_ADMIN_PASSWORD": "grafana_password"},
        ("core", "backend"): {
            "DB_USER": "db_username",
            "DB_PASSWORD": "db_password",
            "JWT_SECRET": "jwt_secret",
        },
        **{
            (node, service): {"DB_USER": "db_username", "DB_PASSWORD": "db_password"}
            for node in "BC"
            for service in ("backtest-worker-1", "training-worker-1")
        },
    }
    for (node, service), variables in places.items():
        environment = lab.environment_of(node, service)
        for variable, field in variables.items():
            assert environment[variable.encode()] == wanted[field], (node, service, variable)


def test_the_database_requires_the_whole_password_not_only_its_first_line(lab: Lab) -> None:
    ask = (
        "import json, os, psycopg\n"
        "def opens(password):\n"
        "    try:\n"
        "        psycopg.connect(host='db', dbname='ktrdr', user=os.environ['DB_USER'],\n"
        "                        password=password).close()\n"
        "        return True\n"
        "    except psycopg.OperationalError:\n"
        "        return False\n"
        "whole = os.environ['DB_PASSWORD']\n"
        "print(json.dumps([opens(whole), opens(whole.splitlines()[0])]))"
    )
    assert lab.inside("core", "backend", ask) == [True, False]


def test_containers_hold_only_the_secrets_that_they_need(lab: Lab) -> None:
    for node in "BC":
        for service in ("backtest-worker-1", "training-worker-1"):
            environment = b"\0".join(lab.environment_of(node, service).values())
            held = leaks_in(environment, hidden(lab))
            assert held == ["db_password"], (node, service)
    assert (
        leaks_in(b"\0".join(lab.environment_of("core", "prometheus").values()), hidden(lab)) == []
    )
    assert leaks_in(b"\0".join(lab.environment_of("core", "jaeger").values()), hidden(lab)) == []


def test_no_argument_list_on_any_machine_contains_a_secret(
    lab: Lab, deployment: Deployment
) -> None:
    assert deployment.sampled.found == {}
    assert deployment.sampled.mean_gap_s < 0.04
    assert deployment.sampled.samples > 500


def test_the_sampler_finds_a_secret_in_an_argument_list(lab: Lab) -> None:
    sampler = CommandLineSampler(hidden(lab))
    secret = lab.fields["jwt_secret"]
    subprocess.run([sys.executable, "-c", "import time; time.sleep(0.3)", secret], check=True)
    assert "jwt_secret" in sampler.stop().found


def test_no_output_contains_a_secret_even_with_maximum_verbosity(
    lab: Lab, deployment: Deployment
) -> None:
    assert "docker compose" in deployment.core.text
    for command, output in lab.outputs.items():
        assert leaks_in(output, hidden(lab)) == [], command


def test_no_file_and_no_log_contains_a_secret(lab: Lab) -> None:
    for key in ("core", "B", "C"):
        root = lab.root_of(key)
        places = [root / place for place in SCANNED]
        dockers_own = [
            *(f"{root}/run/{name}/" for name in ("docker", "containerd")),
            f"{root}/tmp/runc-process",
        ]
        assert leaks_in_files(places, hidden(lab), leave_out=dockers_own) == [], key
        logs = (root / "var/lib/docker/containers").rglob("*.log*")
        for log in logs:
            assert leaks_in(log.read_bytes(), hidden(lab)) == [], log
    laptop = [Path.home() / ".docker", Path.home() / ".ssh", Path.home() / ".config/ktrdr"]
    assert leaks_in_files([place for place in laptop if place.is_dir()], hidden(lab)) == []
    token = Path(lab.env["KTRDR_CONFIG"]).with_suffix(".token")
    assert leaks_in(token.read_bytes(), hidden(lab)) == []
    assert token.stat().st_mode & 0o077 == 0


def test_the_search_of_files_finds_a_planted_secret(lab: Lab) -> None:
    planted = lab.root_of("C") / "opt/planted"
    planted.write_text(f"DB_PASSWORD={lab.fields['db_password']}\n")
    try:
        found = leaks_in_files([lab.root_of("C") / "opt"], hidden(lab))
    finally:
        planted.unlink()
    assert found == [f"db_password in {planted}"]


def test_docker_stores_the_environment_of_containers_on_disk_as_documented(
    lab: Lab,
) -> None:
    container = lab.inspect("core")["backend"]["Id"]
    kept = lab.root_of("core") / f"var/lib/docker/containers/{container}/config.v2.json"
    assert "jwt_secret" in leaks_in(kept.read_bytes(), hidden(lab))
    assert "config.v2.json" in (ROOT / "docs/secrets.md").read_text()


def test_a_host_stores_no_registry_login(lab: Lab) -> None:
    for key in ("core", "B", "C"):
        assert lab.on(key, "sh", "-c", "cat /root/.docker/config.json 2>/dev/null || :") == ""
        refused = lab.on(
            key, "sh", "-c", f"docker pull ghcr.io/ktrdr/ktrdr-backend:{lab.tag} 2>&1 || :"
        )
        assert "no basic auth credentials" in refused, "the registry takes anonymous pulls"


def test_a_second_deploy_changes_and_restarts_nothing(lab: Lab) -> None:
    before = {
        service: (each["Id"], each["State"]["StartedAt"], each["RestartCount"])
        for service, each in lab.inspect("core").items()
    }
    plain = lab.good("deploy", "core", "all")
    assert f"Nothing was changed or restarted: {lab.tag} runs already." in plain.out
    document = lab.good("deploy", "core", "all", "--json").on_host
    assert document["changed"] is False
    assert {service["action"] for service in document["services"]} == {"unchanged"}
    after = {
        service: (each["Id"], each["State"]["StartedAt"], each["RestartCount"])
        for service, each in lab.inspect("core").items()
    }
    assert after == before


def logins(lab: Lab) -> int:
    journal = lab.on("C", "journalctl", "--unit", "ssh", "--boot", "--output", "cat")
    return journal.count("Accepted publickey")


def test_a_deploy_opens_one_connection_per_host(lab: Lab, deployment: Deployment) -> None:
    assert deployment.c.result["ssh"]["connections"] == 1
    began = logins(lab)
    lab.good("deploy", "workers", "C")
    assert logins(lab) - began == 1


def test_a_single_service_can_be_deployed(lab: Lab) -> None:
    document = lab.good("deploy", "core", "prometheus", "--json").on_host
    assert [service["name"] for service in document["services"]] == ["prometheus"]
    assert document["changed"] is False


def test_scale_starts_and_removes_a_second_worker_of_each_type(lab: Lab) -> None:
    def registered() -> set[str]:
        found = lab.good("workers", "list", "--json").json
        return {
            each["endpoint_url"].rpartition(":")[2] for each in found if "-c" in each["worker_id"]
        }

    grown = lab.good("deploy", "workers", "C", "--scale", "2", "--json").on_host
    assert {each["name"]: each["action"] for each in grown["services"]} == {
        "backtest-worker-1": "unchanged",
        "training-worker-1": "unchanged",
        "backtest-worker-2": "created",
        "training-worker-2": "created",
    }
    assert registered() == {"5003", "5004", "5005", "5006"}
    shrunk = lab.good("deploy", "workers", "C", "--yes", "--json").on_host
    actions = {each["name"]: each["action"] for each in shrunk["services"]}
    assert (actions["backtest-worker-2"], actions["training-worker-2"]) == ("removed", "removed")
    assert registered() == {"5003", "5005"}


def test_a_changed_rule_recreates_only_prometheus(
    lab: Lab, moving_tag: str, tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
    for name in ("docker-compose.core.yml", ".env.core"):
        shutil.copy(ROOT / name, checkout / name)
    for name in ("monitoring", "deploy/tmpfs"):
        shutil.copytree(ROOT / name, checkout / name, dirs_exist_ok=True)
    lab.good("deploy", "core", "all", "--tag", moving_tag, cwd=checkout)
    rules = checkout / "monitoring/rules/ktrdr.yml"
    rules.write_text(rules.read_text() + "\n# changed\n")
    deploy = ("deploy", "core", "all", "--tag", moving_tag, "--json")
    changed = lab.good(*deploy, cwd=checkout).on_host
    assert changed["changed_files"] == ["+ monitoring/rules/ktrdr.yml"]
    actions = {each["name"]: each["action"] for each in changed["services"]}
    assert actions.pop("prometheus") == "recreated"
    assert set(actions.values()) == {"unchanged"}
    assert lab.good("deploy", "core", "all", "--json").result["changed"] is True


def test_a_dry_run_opens_no_connection_and_does_not_read_the_vault(
    lab: Lab, tmp_path: Path
) -> None:
    """Only git is available; there is no vault, and no host can be reached."""
    (tmp_path / "git").symlink_to(shutil.which("git") or "git")
    env = {"PATH": str(tmp_path), "KTRDR_SSH_CONFIG": "/nowhere", "KTRDR_LAB_VAULT": "/nowhere"}
    ran = lab.good("deploy", "core", "all", "--dry-run", env=env)
    assert "--project ktrdr-core" in ran.out
    assert 'export DB_PASSWORD="${DB_PASSWORD:?}"' in ran.out
    document = lab.good("deploy", "workers", "B", "--dry-run", "--json", env=env).on_host
    kinds = [step["kind"] for step in document["steps"]]
    assert kinds == ["lock", "check", "fetch", "start", "apply", "verify", "record"]
    (apply,) = (step for step in document["steps"] if step["kind"] == "apply")
    assert "WORKER_TOKEN" in apply["secrets"]


def test_output_is_coloured_only_on_terminals_without_no_color(lab: Lab) -> None:
    plain = lab.good("status").text
    assert "\x1b" not in plain
    program = [sys.executable, "-c", f"import pty; pty.spawn([{str(BIN / 'ktrdr')!r}, 'status'])"]

    def on_a_terminal(**env: str) -> bytes:
        return subprocess.run(
            program,
            cwd=ROOT,
            env={**lab.env, "TERM": "xterm-256color", **env},
            check=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
        ).stdout

    assert b"\x1b[" in on_a_terminal()
    assert not re.search(rb"\x1b\[[0-9;]*3[0-7]m", on_a_terminal(NO_COLOR="1"))


@pytest.mark.parametrize("command", [["status"], ["workers", "list"], ["operations", "list"]])
def test_every_listing_is_available_as_json(lab: Lab, command: list[str]) -> None:
    assert json.loads(lab.good(*command, "--json").out)
