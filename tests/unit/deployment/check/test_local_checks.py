"""What is said of the machine that deploys."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ktrdr.deployment.check import local_checks as laptop
from ktrdr.deployment.deploy.plan import Plan, Request, Stamp, make
from ktrdr.deployment.releases.checkout import Checkout
from ktrdr.deployment.releases.release import Target
from ktrdr.errors import ConfigurationError


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "first"], check=True)
    return tmp_path


def test_python_and_ssh_are_named_with_their_versions() -> None:
    python, ssh = laptop.programs("ssh")
    assert (python.findings, ssh.findings) == ((), ())
    assert ssh.detail.startswith("OpenSSH ")


def test_a_machine_without_ssh_is_told_so() -> None:
    _, ssh = laptop.programs("no-such-ssh")
    (finding,) = ssh.findings
    assert "this machine has no program no-such-ssh" in finding.complaint
    assert finding.exit_code == 5


def test_changes_and_unpushed_commits_are_both_found(repository) -> None:
    (repository / "new").write_text("")
    (point,) = laptop.checkout(Checkout(repository), None)
    complaints = [finding.complaint for finding in point.findings]
    assert complaints[0] == "the checkout has uncommitted changes (new)"
    assert complaints[1].endswith("is on no remote branch, so CI built no image")
    assert {finding.exit_code for finding in point.findings} == {3}


def test_with_a_tag_the_state_of_the_checkout_does_not_matter(repository) -> None:
    (repository / "new").write_text("")
    (point,) = laptop.checkout(Checkout(repository), "sha-abc1234")
    assert (point.detail, point.findings) == ("sha-abc1234", ())


def test_no_checkout_is_a_finding_rather_than_an_end(tmp_path) -> None:
    (point,) = laptop.checkout(Checkout(tmp_path), None)
    assert "is not a git checkout" in point.findings[0].complaint


def test_a_setting_without_a_value_is_found(planned, release) -> None:
    name = "docker-compose.core.yml"
    release.files[name] += b"  x: {image: y, environment: {NEW_SETTING: , JWT_SECRET: }}\n"
    _, point = laptop.planned(planned)
    assert [finding.complaint for finding in point.findings] == [
        "commit abc1234 has no value for the setting NEW_SETTING of core"
    ]


def test_what_cannot_be_planned_is_a_finding() -> None:
    def make() -> Plan:
        raise ConfigurationError("there is no such file", hint="Make it.")

    plan, point = laptop.planned(make)
    assert plan is None
    assert [finding.exit_code for finding in point.findings] == [3]


@pytest.mark.parametrize("node", [None, "B"])
def test_no_setting_of_this_very_checkout_is_without_a_value(inventory, node) -> None:
    target: Target = "workers" if node else "core"
    release = Checkout(Path(__file__).resolve().parents[4]).load_release(target, "latest")
    stamp = Stamp("1", "me", datetime(2026, 11, 23, tzinfo=UTC))
    _, point = laptop.planned(lambda: make(inventory, Request(target, node or ""), release, stamp))
    assert point.findings == ()
