"""Tests of `check` and `diff`: all problems, all changes, and no effect on the hosts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lab import vault
from lab.config import DOMAIN, NODES, ROOT
from tests.e2e.conftest import Lab
from tests.e2e.leaks import leaks_in

WOULD_CHANGE = 10


def state_of(lab: Lab) -> dict[str, Any]:
    """Return containers, images and files of all hosts."""
    files = "find /opt /dev/shm -type f -exec sha256sum {} + | sort"
    listing = f"docker images -q --no-trunc | sort; {files}"
    return {
        node.key: (
            lab.on(node.key, "sh", "-c", listing),
            {name: (each["Id"], each["State"]["StartedAt"])
             for name, each in lab.inspect(node.key).items()},
        )
        for node in NODES
    }  # fmt: skip


def places(document: Any) -> dict[str, list[str]]:
    return {
        place["place"]: [
            finding["complaint"] for point in place["points"] for finding in point["findings"]
        ]
        for place in document["places"]
    }


def test_checking_a_healthy_lab_finds_no_problem_and_changes_nothing(lab: Lab) -> None:
    before = state_of(lab)
    ran = lab.good("deploy", "check")
    assert "No problems found: a deploy can start." in ran.out
    document = lab.good("deploy", "check", "all", "--json").json
    assert {place: found for place, found in places(document).items() if found} == {}
    assert list(places(document)) == [
        "laptop", "vault", "registry", "core", "workers B", "workers C"
    ]  # fmt: skip
    assert state_of(lab) == before


def test_all_problems_are_reported_together_and_the_lowest_exit_code_is_used(
    lab: Lab, tmp_path: Path
) -> None:
    env = lab.write_vault(tmp_path / "vault.json", {"jwt_secret": "short"})
    lab.on("C", "iptables", "-I", "OUTPUT", "-p", "tcp", "--dport", "4317", "-j", "DROP")
    try:
        ran = lab.ktrdr(
            *("deploy", "check", "--json", "--tag", "sha-0000000"),
            # The port of the host's own SSH server, and an unknown host.
            *("--set", "core.ports.grafana=22", "--set", "workers.B.host=nobody.invalid"),
            *("--set", "workers.C.workdir=/proc/ktrdr"),
            env=env,
        )
    finally:
        lab.on("C", "iptables", "-D", "OUTPUT", "-p", "tcp", "--dport", "4317", "-j", "DROP")
    assert ran.code == 4, ran.text
    found = places(ran.json)
    assert found["vault"] == ["jwt_secret is shorter than 32 characters"]
    assert found["registry"] == [
        "the image ghcr.io/ktrdr/ktrdr-backend:sha-0000000 is not in the registry"
    ]
    assert found["core"] == [
        "the port 22 is in use by another program",
        "this host cannot reach nobody.invalid:5003, 5005 (Name or service not known)",
    ]
    assert found["workers B"] == ["the name nobody.invalid cannot be resolved"]
    assert found["workers C"] == [
        "root has no permission to write to the work directory /proc/ktrdr",
        "the disk of the work directory has too little free space: 0 MiB free, 2048 needed",
        f"this host cannot reach backend.{DOMAIN}:4317 (no response)",
    ]


def test_a_refused_registry_login_is_reported_without_a_pull(lab: Lab, tmp_path: Path) -> None:
    env = lab.write_vault(tmp_path / "vault.json", {"ghcr_token": "ghp_outdated"})
    ran = lab.ktrdr("deploy", "check", "workers", "B", env=env)
    assert ran.code == 7, ran.text
    assert "the registry rejects the login for ghcr.io/ktrdr/ktrdr-backend" in ran.out
    assert "read:packages" in ran.out


def test_a_host_that_runs_the_release_shows_no_changes_with_or_without_the_vault(lab: Lab) -> None:
    """Compose computes the same hashes even for secrets with special characters."""
    before = state_of(lab)
    ran = lab.good("deploy", "diff", "--json", env={"KTRDR_LAB_VAULT": "/nowhere"})
    assert [host["changed"] for host in ran.json["hosts"]] == [False] * 3
    asked = lab.good("deploy", "diff", "--secrets", "--json")
    assert [host["changed"] for host in asked.json["hosts"]] == [False] * 3
    assert "Nothing would change." in lab.good("deploy", "diff", "core").out
    assert state_of(lab) == before


def test_a_rotated_secret_is_shown_when_the_vault_is_read(lab: Lab, tmp_path: Path) -> None:
    env = lab.write_vault(tmp_path / "vault.json", {"grafana_password": "another one, long enough"})
    assert lab.ktrdr("deploy", "diff", "core", env=env).code == 0
    ran = lab.ktrdr("deploy", "diff", "core", "--secrets", "--json", env=env)
    assert ran.code == WOULD_CHANGE, ran.text
    (host,) = ran.json["hosts"]
    changed = {each["name"]: each["reason"] for each in host["services"] if each["reason"]}
    assert changed == {"grafana": "changed: its secrets"}


def test_a_changed_secret_delivery_is_shown_as_the_reason(lab: Lab) -> None:
    ran = lab.ktrdr("deploy", "diff", "core", "--set", "secrets.delivery=tmpfs")
    assert ran.code == WOULD_CHANGE, ran.text
    assert "the containers of core would receive their secrets as files in memory" in ran.out
    assert "~ backend" in ran.out


@pytest.fixture
def checkout(lab: Lab, tmp_path: Path) -> Path:
    """Provide a checkout whose last commit changes some of the deployed configuration."""
    place = tmp_path / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(place)], check=True)
    for name in ("docker-compose.core.yml", ".env.core"):
        shutil.copy(ROOT / name, place / name)
    for name in ("monitoring", "deploy/tmpfs"):
        shutil.copytree(ROOT / name, place / name, dirs_exist_ok=True)
    return place


def test_diff_shows_changed_lines_and_the_deploy_makes_exactly_these_changes(
    lab: Lab, checkout: Path
) -> None:
    settings = checkout / ".env.core"
    settings.write_text(settings.read_text().replace("LOG_LEVEL=INFO", "LOG_LEVEL=DEBUG"))
    rules = checkout / "monitoring/rules/ktrdr.yml"
    rules.write_text(rules.read_text() + "# looked at\n")
    git = ["git", "-C", str(checkout), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "commit", "--quiet", "--all", "-m", "Say more"], check=True)
    before = state_of(lab)
    ran = lab.ktrdr("deploy", "diff", "core", cwd=checkout, env={"KTRDR_DEPLOY_TAG": ""})
    assert ran.code == WOULD_CHANGE, ran.text
    for words in (
        "~ backend", "setting LOG_LEVEL  INFO → DEBUG", "file ~ monitoring/rules/ktrdr.yml",
        "+# looked at", "Say more", "~ prometheus", "changed: monitoring/rules/ktrdr.yml",
        "A deploy would change core.",
    ):  # fmt: skip
        assert words in ran.out, ran.out
    assert "unchanged: db" in ran.out
    assert state_of(lab) == before


def test_check_and_diff_show_no_secret(lab: Lab) -> None:
    """Search for secrets of the vault and of the containers."""
    hidden = {name: text for name, text in lab.fields.items() if name != "db_username"}
    looked = {name: text for name, text in lab.outputs.items() if " deploy check" in name
              or " deploy diff" in name}  # fmt: skip
    assert len(looked) > 5
    for command, output in looked.items():
        assert leaks_in(output, hidden) == [], command
    assert vault.read_field("ghcr_token") not in "".join(looked.values())
