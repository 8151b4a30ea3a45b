"""Tests of delivery in memory: the disks of the hosts contain no secret."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from lab import nodes, registries
from lab.shell import wait_until
from tests.e2e.conftest import Lab, node
from tests.e2e.leaks import leaks_in, leaks_on_disk
from tests.e2e.test_rotation import password, started

HOSTS = ("core", "B", "C")
WHAT = {"core": ("core", "all"), "B": ("workers", "B"), "C": ("workers", "C")}
# Directories in the hosts' memory, with secrets and with Docker's files of running containers.
NO_DISK = ("run",)


# Database in which Docker 20.10 keeps the parameters of containers. Free pages keep their content.
CONTAINERD = "io.containerd.metadata.v1.bolt/meta.db"


def deploy_all(lab: Lab, **env: str) -> None:
    for what in WHAT.values():
        lab.good("deploy", *what, "--yes", env=env)


def confidential(fields: Mapping[str, str]) -> dict[str, str]:
    """Return all fields except the user name, which is in the database's catalogue."""
    return {name: value for name, value in fields.items() if name != "db_username"}


@dataclass(frozen=True)
class InMemory:
    """The stack with secrets that have only ever been in memory.

    Attributes:
        lab: The lab.
        fields: What the vault holds now.
        env: What makes commands use this vault and this delivery.
    """

    lab: Lab
    fields: Mapping[str, str]
    env: Mapping[str, str]

    @cached_property
    def hidden(self) -> dict[str, str]:
        """Secrets that may be on no disk: the fields, and values derived from them."""
        found = confidential(self.fields)
        for key in "BC":
            read = ("cat", "/run/ktrdr/ktrdr-workers/worker/worker_token")
            found[f"token of {key}"] = self.lab.on(key, *read)
        return found

    def on_disk(self, key: str) -> list[str]:
        """Return the locations of secrets on a host's disks."""
        return leaks_on_disk(self.lab.root_of(key), self.hidden, leave_out=NO_DISK)


@pytest.fixture(scope="module")
def in_memory(
    bare_lab: Lab, deployment: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[InMemory]:
    """Switch to delivery in memory with rotated secrets, and switch back afterwards."""
    fields = {
        **bare_lab.fields,
        "db_password": password("db"),
        "grafana_password": password("gf"),
        "jwt_secret": password(f"jwt-{'x' * 20}"),
        "ghcr_token": "".join(password("ghp").split()),
    }
    vault = bare_lab.write_vault(tmp_path_factory.mktemp("vault") / "vault.json", fields)
    registries.set_token(fields["ghcr_token"])
    env = {"KTRDR_INVENTORY_SECRETS_DELIVERY": "tmpfs", **vault}
    deploy_all(bare_lab, **env)
    yield InMemory(bare_lab, fields, env)
    registries.set_token(bare_lab.fields["ghcr_token"])
    deploy_all(bare_lab)
    bare_lab.good("token", "create", "--role", "operator", "--save")
    for key in HOSTS:
        assert bare_lab.on(key, "sh", "-c", "ls /run/ktrdr 2>/dev/null || :") == ""


def health_of(lab: Lab, key: str) -> set[str]:
    return {each["State"].get("Health", {}).get("Status", "") for each in lab.inspect(key).values()}


def until_docker_answers(key: str) -> None:
    # Wait for the new engine, not for the one that is stopping.
    time.sleep(2)
    wait_until("Docker is back", lambda: nodes.succeeds_inside(node(key), "docker", "info"), 90)


def until_healthy(lab: Lab, key: str) -> None:
    wait_until(f"all of {key} is healthy", lambda: health_of(lab, key) == {"healthy"}, 90)


def test_with_delivery_by_environment_the_search_finds_secrets_on_disk(lab: Lab) -> None:
    found = leaks_on_disk(lab.root_of("core"), confidential(lab.fields), leave_out=NO_DISK)
    assert {line.partition(" in ")[0] for line in found} == {
        "db_password",
        "jwt_secret",
        "grafana_password",
    }
    assert all("config.v2.json" in line or CONTAINERD in line for line in found), found


def test_no_disk_contains_a_secret_while_the_stack_runs(in_memory: InMemory) -> None:
    for key in HOSTS:
        until_healthy(in_memory.lab, key)
        assert in_memory.on_disk(key) == [], key


def test_after_a_switch_former_secrets_remain_only_in_free_space_of_containerds_database(
    in_memory: InMemory,
) -> None:
    former = confidential(in_memory.lab.fields)
    for key in HOSTS:
        found = leaks_on_disk(in_memory.lab.root_of(key), former, leave_out=NO_DISK)
        assert all(CONTAINERD in line for line in found), found


def test_the_search_of_disks_finds_a_planted_secret(in_memory: InMemory) -> None:
    planted = in_memory.lab.root_of("C") / "var/lib/docker/planted"
    planted.write_text(json.dumps({"password": in_memory.fields["db_password"]}))
    try:
        assert in_memory.on_disk("C") == [f"db_password in {planted}"]
    finally:
        planted.unlink()


def test_no_environment_and_no_argument_of_a_container_contains_a_secret(
    in_memory: InMemory,
) -> None:
    for key in HOSTS:
        for service, each in in_memory.lab.inspect(key).items():
            assert leaks_in(json.dumps(each), in_memory.hidden) == [], service
            environment = in_memory.lab.environment_of(key, service)
            assert leaks_in(b"\0".join(environment.values()), in_memory.hidden) == [], service


def test_each_secret_file_is_readable_only_by_its_containers_user(in_memory: InMemory) -> None:
    listing = ("find", "/run/ktrdr", "-type", "f", "-printf", "%P %m %U\\n")
    names = ("db_password", "jwt_secret", "jwt_secret_previous", "jwt_secret_previous_until")
    assert set(in_memory.lab.on("core", *listing).splitlines()) == {
        "ktrdr-core/key 440 0",
        "ktrdr-core/grafana/admin_password 400 472",
        *(f"ktrdr-core/backend/{name} 400 10001" for name in names),
    }


def test_a_second_deploy_changes_nothing(in_memory: InMemory) -> None:
    for what in WHAT.values():
        document = in_memory.lab.good("deploy", *what, "--json", env=in_memory.env).result
        assert document["changed"] is False, what
    for secrets in ((), ("--secrets",)):
        in_memory.lab.good("deploy", "diff", "all", *secrets, env=in_memory.env)
    in_memory.lab.good("deploy", "check", "all", env=in_memory.env)


def test_a_member_of_the_group_docker_delivers_secrets_like_root(in_memory: InMemory) -> None:
    lab, host = in_memory.lab, "/opt/ktrdr-workers-b"
    # sshd treats an account without any password as locked.
    member = "useradd --create-home -G docker -p '*' deploy"
    lab.on("B", "sh", "-c", f"id deploy 2>/dev/null || {member}")
    lab.on("B", "chown", "-R", "deploy:", host)
    as_deploy = {**in_memory.env, "KTRDR_INVENTORY_SSH_USER": "deploy"}
    try:
        unchanged = lab.good("deploy", "workers", "B", "--json", env=as_deploy).result
        assert unchanged["changed"] is False, "the fingerprints are the same for whoever asks"
        lab.on("B", "rm", "-r", "/run/ktrdr")
        lab.good("deploy", "workers", "B", "--yes", env=as_deploy)
        listing = ("find", "/run/ktrdr", "-type", "f", "-printf", "%P %m %U\\n")
        assert set(lab.on("B", *listing).splitlines()) == {
            "ktrdr-workers/key 440 0",
            "ktrdr-workers/worker/db_password 400 10001",
            "ktrdr-workers/worker/worker_token 400 10001",
        }
        assert in_memory.on_disk("B") == []
        # The container that wrote them is gone.
        assert len(lab.inspect("B")) == len(lab.on("B", "docker", "ps", "-aq").split())
    finally:
        lab.on("B", "chown", "-R", "root:", host)


def test_restarts_of_containers_and_docker_need_no_deploy_and_leave_no_secret_on_disk(
    in_memory: InMemory,
) -> None:
    for key in HOSTS:
        in_memory.lab.on(key, "sh", "-c", "docker restart $(docker ps --quiet)")
    for key in HOSTS:
        until_healthy(in_memory.lab, key)
        assert in_memory.on_disk(key) == [], key
        in_memory.lab.on(key, "pkill", "-x", "dockerd")
    for key in HOSTS:
        until_docker_answers(key)
        until_healthy(in_memory.lab, key)
        assert in_memory.on_disk(key) == [], key


def test_a_changed_secret_replaces_only_the_containers_that_use_it(
    in_memory: InMemory, tmp_path: Path
) -> None:
    lab, before = in_memory.lab, started(in_memory.lab, "core")
    other = {**in_memory.fields, "jwt_secret": "another secret of at least 32 characters"}
    token = lab.good("token", "create", "--role", "reader", env=in_memory.env).out.strip()
    lab.good(
        *("deploy", "core", "all"),
        env={**in_memory.env, **lab.write_vault(tmp_path / "vault.json", other)},
    )
    after = started(lab, "core")
    assert {name for name in before if before[name] != after[name]} == {"backend"}
    assert lab.good("workers", "list", env={"KTRDR_TOKEN": token}).out, "a token of before"
    lab.good("deploy", "core", "all", env=in_memory.env)


def test_a_rebooted_host_needs_a_deploy_and_reports_it(in_memory: InMemory) -> None:
    lab = in_memory.lab

    assert json.loads(lab.good("deploy", "status", "core", "--json").out)["hosts"][0]["drift"] == []
    nodes.reboot(node("core"))
    states = {service: each["State"]["Status"] for service, each in lab.inspect("core").items()}
    assert states["backend"] != "running"
    for command in (("deploy", "status", "core"), ("status",)):
        said = lab.ktrdr(*command)
        assert said.code, "something is wrong"
        assert "this host was restarted: run `ktrdr deploy core all`" in " ".join(said.text.split())
    assert in_memory.on_disk("core") == []
    lab.good("deploy", "core", "all", "--yes", env=in_memory.env)
    until_healthy(lab, "core")
    assert in_memory.on_disk("core") == []


def test_switching_back_leaves_nothing_in_memory(in_memory: InMemory) -> None:
    lab, vault = in_memory.lab, "KTRDR_LAB_VAULT"
    lab.good("deploy", "workers", "C", "--yes", env={vault: in_memory.env[vault]})
    assert lab.on("C", "sh", "-c", "ls -A /run/ktrdr 2>/dev/null || :") == ""
    assert lab.environment_of("C", "backtest-worker-1")[b"WORKER_TOKEN"]
