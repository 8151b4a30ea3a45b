"""Secrets in memory alone: every byte of the hosts' disks is searched, and nothing is found."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ktrdr.deployment.commands import delivery, sections
from ktrdr.deployment.delivered import Delivery, read_delivery
from lab import containers
from lab.engine import docker
from lab.shell import run, wait_until
from tests.e2e.conftest import Lab, node
from tests.e2e.leaks import leaks_in, leaks_on_disk
from tests.e2e.test_rotation import started

IN_MEMORY = {"KTRDR_INVENTORY_SECRETS_DELIVERY": "tmpfs"}
HOSTS = ("core", "B", "C")
WHAT = {"core": ("core", "all"), "B": ("workers", "B"), "C": ("workers", "C")}
# The memory of the hosts, where their secrets are and Docker's own files on running containers.
NO_DISK = ("run",)


def deploy_all(lab: Lab, **env: str) -> None:
    for what in WHAT.values():
        lab.good("deploy", *what, "--yes", env=env)


@pytest.fixture(scope="module")
def hidden(bare_lab: Lab, deployment: object) -> dict[str, str]:
    """What must stand on no disk; a user's name is in the database's own catalogue."""
    found = {name: value for name, value in bare_lab.fields.items() if name != "db_username"}
    for key in "BC":
        token = bare_lab.environment_of(key, "backtest-worker-1").get(b"WORKER_TOKEN")
        assert token, "delivered as environment until now"
        found[f"token of {key}"] = token.decode()
    return found


@pytest.fixture(scope="module")
def in_memory(bare_lab: Lab, hidden: dict[str, str]) -> Iterator[Lab]:
    """The stack with its secrets in memory; as environment again afterwards."""
    deploy_all(bare_lab, **IN_MEMORY)
    yield bare_lab
    deploy_all(bare_lab)
    for key in HOSTS:
        assert bare_lab.on(key, "sh", "-c", "ls /run/ktrdr 2>/dev/null || :") == ""


def on_disk(lab: Lab, hidden: dict[str, str], key: str) -> list[str]:
    return leaks_on_disk(lab.root_of(key), hidden, leave_out=NO_DISK)


def health_of(lab: Lab, key: str) -> set[str]:
    return {each["State"].get("Health", {}).get("Status", "") for each in lab.inspect(key).values()}


def until_docker_answers(key: str) -> None:
    name = node(key).container
    wait_until("Docker is back", lambda: containers.works_inside(name, "docker", "info"), 90)


def until_healthy(lab: Lab, key: str) -> None:
    wait_until(f"all of {key} is healthy", lambda: health_of(lab, key) == {"healthy"}, 90)


def test_with_delivery_by_environment_the_search_finds_what_docker_keeps(
    lab: Lab, hidden: dict[str, str]
) -> None:
    found = on_disk(lab, hidden, "core")
    assert {line.partition(" in ")[0] for line in found} == {
        "db_password",
        "jwt_secret",
        "grafana_password",
    }
    assert all("config.v2.json" in line for line in found), found


def test_no_byte_on_any_disk_is_a_secrets_while_the_stack_runs(
    in_memory: Lab, hidden: dict[str, str]
) -> None:
    for key in HOSTS:
        until_healthy(in_memory, key)
        assert on_disk(in_memory, hidden, key) == [], key


def test_what_is_planted_is_found(in_memory: Lab, hidden: dict[str, str]) -> None:
    planted = in_memory.root_of("B") / "var/lib/docker/planted"
    planted.write_text(json.dumps({"password": hidden["db_password"]}))
    try:
        assert on_disk(in_memory, hidden, "B") == [f"db_password in {planted}"]
    finally:
        planted.unlink()


def test_no_environment_and_no_argument_of_a_container_holds_a_secret(
    in_memory: Lab, hidden: dict[str, str]
) -> None:
    for key in HOSTS:
        for service, each in in_memory.inspect(key).items():
            assert leaks_in(json.dumps(each), hidden) == [], service
            environment = in_memory.environment_of(key, service)
            assert leaks_in(b"\0".join(environment.values()), hidden) == [], service


def test_each_file_is_for_its_containers_user_alone(in_memory: Lab) -> None:
    listed = in_memory.on("core", "find", "/run/ktrdr", "-type", "f", "-printf", "%P %m %U\\n")
    assert set(listed.splitlines()) == {
        "ktrdr-core/key 440 0",
        "ktrdr-core/grafana/admin_password 400 472",
        *(
            f"ktrdr-core/backend/{name} 400 10001"
            for name in (
                "db_password",
                "jwt_secret",
                "jwt_secret_previous",
                "jwt_secret_previous_until",
            )
        ),
    }


def test_a_second_deploy_changes_nothing(in_memory: Lab) -> None:
    for what in WHAT.values():
        document = in_memory.good("deploy", *what, "--json", env=IN_MEMORY).json
        assert document["changed"] is False, what


def test_restarts_of_containers_and_of_docker_need_no_deploy_and_leave_nothing(
    in_memory: Lab, hidden: dict[str, str]
) -> None:
    for key in HOSTS:
        in_memory.on(key, "sh", "-c", "docker restart $(docker ps --quiet)")
        until_healthy(in_memory, key)
    for key in HOSTS:
        in_memory.on(key, "pkill", "-x", "dockerd")
        time.sleep(2)
        until_docker_answers(key)
        until_healthy(in_memory, key)
        assert on_disk(in_memory, hidden, key) == [], key


def test_a_changed_secret_replaces_what_uses_it_and_nothing_else(
    in_memory: Lab, tmp_path: Path
) -> None:
    before = started(in_memory, "core")
    other = {"jwt_secret": "another secret of at least 32 characters"}
    vault = in_memory.write_vault(tmp_path / "vault.json", other)
    in_memory.good("deploy", "core", "all", env={**IN_MEMORY, **vault})
    after = started(in_memory, "core")
    assert {name for name in before if before[name] != after[name]} == {"backend"}
    assert in_memory.good("workers", "list").out, "a token of before"
    in_memory.good("deploy", "core", "all", env=IN_MEMORY)


def test_after_a_reboot_the_host_needs_a_deploy_and_says_so(
    in_memory: Lab, hidden: dict[str, str]
) -> None:
    name = node("core").container

    def delivered() -> Delivery:
        said = in_memory.on("core", "sh", "-c", delivery.presence("ktrdr-core"))
        return read_delivery(sections.split(said)["delivery"])

    assert delivered() == read_delivery(["present backend", "present grafana"])
    run(docker(), "restart", "--time", "20", name, timeout=120)
    until_docker_answers("core")
    assert delivered() == read_delivery(["absent backend", "absent grafana"])
    states = {name: each["State"]["Status"] for name, each in in_memory.inspect("core").items()}
    assert states["backend"] != "running"
    assert on_disk(in_memory, hidden, "core") == []
    in_memory.good("deploy", "core", "all", "--yes", env=IN_MEMORY)
    until_healthy(in_memory, "core")
    assert on_disk(in_memory, hidden, "core") == []


def test_switching_back_leaves_nothing_in_memory(in_memory: Lab) -> None:
    in_memory.good("deploy", "workers", "C", "--yes")
    assert in_memory.on("C", "sh", "-c", "ls -A /run/ktrdr 2>/dev/null || :") == ""
    assert in_memory.environment_of("C", "backtest-worker-1")[b"WORKER_TOKEN"]
    in_memory.good("deploy", "workers", "C", "--yes", env=IN_MEMORY)
