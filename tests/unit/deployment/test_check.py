"""Checks before a deploy: all problems together, nothing changed, and the right exit code."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ktrdr.deployment import check
from ktrdr.deployment.check import CheckedSubject, Checker, exit_code
from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.deploy.plan import Plan, make_plan
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.releases.checkout import Checkout
from ktrdr.errors import ConfigurationError, HostNotReady, HostUnreachable, SecretsError
from ktrdr.secret import Scrubber, Secret
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.conftest import SimulatedHost

GOOD = {
    name: Secret(hashlib.sha256(name.encode()).hexdigest()[:40])
    for name in ("db_username", "db_password", "jwt_secret", "grafana_password", "ghcr_token")
}
CHECK, REGISTRY = "Usage: check.sh", "Usage: ask_registry.sh"
START = "Usage: start_container.sh"


class Vault:
    """Source of secrets that counts how often it is read."""

    def __init__(self, fields: Mapping[str, Secret] | SecretsError) -> None:
        self.fields = fields
        self.reads = 0

    def fetch(self) -> Mapping[str, Secret]:
        self.reads += 1
        if isinstance(self.fields, SecretsError):
            raise self.fields
        return self.fields


class Lab:
    """Three hosts without problems; a test changes what it is about."""

    def __init__(self, product, planned, clock) -> None:
        self.plans: dict[Host, Plan] = {
            host: planned(host.stack, node=host.node) for host in product.hosts
        }
        self.facts = {host.address: SimulatedHost(plan).facts for host, plan in self.plans.items()}
        self.transport = RecordingTransport()
        self.vault = Vault(GOOD)
        self.product, self.clock = product, clock
        self.registry = "0 sha256:0123456789abcdef"
        self.registry_error: HostUnreachable | None = None
        self.unreachable: list[str] = []
        self.start = Answer(stdout="started\n")

    def check(self) -> list[CheckedSubject]:
        for host, plan in self.plans.items():
            facts = self.facts[host.address]
            facts_output = "".join(f"{name}={value}\n" for name, value in facts.items())
            own = sorted({service.image for service in plan.expected if service.reports_version})
            digests = "".join(f"{image} {self.registry}\n" for image in own)
            for containing, output in ((CHECK, facts_output), (REGISTRY, digests)):
                self.transport.answer(
                    Answer(stdout=output), host=host.address, containing=containing
                )
        self.transport.answer(self.start, containing=START)
        if self.registry_error:
            self.transport.answer(Answer(error=self.registry_error), containing=REGISTRY)
        for address in self.unreachable:
            error = HostUnreachable("the host cannot be reached", hint="Start it.")
            error.is_off = True
            self.transport.answer(Answer(error=error), host=address)
        checker = Checker(
            self.product,
            self.plans,
            self.vault,
            "a vault",
            self.transport,
            Scrubber(),
            self.clock,
        )
        return checker.check_all()


@pytest.fixture
def lab(product, planned, clock) -> Lab:
    return Lab(product, planned, clock)


def messages(report: list[CheckedSubject]) -> dict[str, list[str]]:
    return {
        subject.name: [problem.message for problem in subject.problems]
        for subject in report
        if subject.problems
    }


def notes(report: list[CheckedSubject]) -> list[str]:
    return [result.note for subject in report for result in subject.results if result.note]


def test_hosts_without_problems_pass(lab) -> None:
    report = lab.check()
    assert messages(report) == {}
    assert exit_code(report) == 0
    assert [subject.name for subject in report] == [
        "vault",
        "registry",
        "core",
        "workers B",
        "workers C",
    ]
    assert lab.vault.reads == 1


def test_all_problems_are_found_together(lab) -> None:
    lab.vault.fields = {**GOOD, "jwt_secret": Secret("short")}
    lab.facts["backend.lab.test"]["docker"] = "down"
    lab.facts["workers-b.lab.test"]["shared"] = "missing"
    lab.unreachable = ["workers-c.lab.test"]
    assert messages(lab.check()) == {
        "vault": ["jwt_secret is shorter than 32 characters"],
        "core": ["the Docker daemon is not running"],
        "workers B": ["the shared directory /mnt/ktrdr-shared is missing"],
        "workers C": ["the host cannot be reached"],
    }


def test_a_node_that_is_often_off_has_the_code_of_a_deploy_without_it(lab) -> None:
    lab.unreachable = ["workers-c.lab.test"]
    assert exit_code(lab.check()) == 5
    (host,) = [host for host in lab.plans if host.node == "C"]
    plan = lab.plans[host]
    lab.plans[host] = replace(plan, config=replace(plan.config, is_often_off=True))
    assert exit_code(lab.check()) == 11
    lab.facts["workers-b.lab.test"]["shared"] = "missing"
    assert exit_code(lab.check()) == 6


def test_a_host_that_starts_no_container_is_a_problem(lab) -> None:
    lab.start = Answer(126, stderr="runc: reopen fd 8: permission denied\n")
    report = lab.check()
    assert "no container starts on backend.lab.test: runc" in messages(report)["core"][0]
    (problem,) = report[2].problems
    assert "lxc-pve" in problem.hint
    assert exit_code(report) == HostNotReady.exit_code


def test_a_host_without_images_is_a_note(lab) -> None:
    lab.start = Answer(stdout="no image\n")
    report = lab.check()
    assert messages(report) == {}
    assert "no container was started, because the host has no image yet" in notes(report)


def test_the_exit_code_is_that_of_the_problem_that_a_deploy_meets_first(lab) -> None:
    lab.vault.fields = {**GOOD, "db_password": Secret("")}
    lab.facts["backend.lab.test"]["docker"] = "down"
    assert exit_code(lab.check()) == 4


def test_an_unreadable_vault_is_one_problem_and_the_registry_is_not_queried(lab) -> None:
    lab.vault.fields = SecretsError("1Password is not signed in", hint="Sign in.")
    report = lab.check()
    assert messages(report) == {"vault": ["1Password is not signed in"]}
    assert "the vault has no usable token" in report[1].results[0].note
    assert not any("--ask ghcr.io" in run.script.reveal() for run in lab.transport.runs)


def test_an_unusable_registry_token_is_no_reason_to_query_the_registry(lab) -> None:
    lab.vault.fields = {**GOOD, "ghcr_token": Secret(" ")}
    report = lab.check()
    assert messages(report) == {"vault": ["ghcr_token is empty"]}
    assert "the vault has no usable token" in report[1].results[0].note
    assert not any("--ask ghcr.io" in run.script.reveal() for run in lab.transport.runs)


def test_a_registry_that_no_host_could_query_counts_as_unchecked(lab) -> None:
    lab.registry_error = HostUnreachable("the script timed out", hint="Try again.")
    report = lab.check()
    assert messages(report) == {}
    assert "not checked, because no host can reach it" in notes(report)


def test_an_image_that_the_registry_lacks_is_reported_once_for_all_hosts(lab) -> None:
    lab.registry = "1 Error response from daemon: manifest unknown: manifest unknown"
    report = lab.check()
    assert messages(report) == {
        "registry": ["the image ghcr.io/ktrdr/ktrdr-backend:sha-abc1234 is not in the registry"]
    }
    assert exit_code(report) == 7


def test_an_image_that_was_built_from_another_commit_is_a_problem(lab) -> None:
    commit = next(iter(lab.plans.values())).release.commit
    lab.registry = f"0 sha256:0123456789abcdef {commit}"
    assert messages(lab.check()) == {}
    (image,) = [each for each in lab.check()[1].results if "backend" in each.name]
    assert image.detail == "0123456789ab, built from abc1234"
    lab.registry = f"0 sha256:0123456789abcdef {'f' * 40}"
    report = lab.check()
    message = (
        "the image ghcr.io/ktrdr/ktrdr-backend:sha-abc1234 was built from commit fffffff, as the "
        "record of its build says"
    )
    assert messages(report) == {"registry": [message]}
    assert exit_code(report) == 7


def test_a_tag_that_names_no_commit_may_have_been_built_from_any(lab, planned, release) -> None:
    moving = replace(release, tag="latest", commit=None)
    lab.plans = {
        host: replace(
            plan,
            release=moving,
            expected=tuple(
                replace(each, image=each.image.replace("sha-abc1234", "latest"))
                for each in plan.expected
            ),
        )
        for host, plan in lab.plans.items()
    }
    lab.registry = f"0 sha256:0123456789abcdef {'f' * 40}"
    assert messages(lab.check()) == {}


@pytest.mark.parametrize(
    ("answer", "message", "note"),
    [
        ("open", None, ""),
        ("1 bash: line 1: connect: Connection refused", None,
         "nothing listens on core:5432 (yet)"),
        ("124 ", "this host cannot reach core:5432 (no response)", ""),
        ("1 bash: core: Name or service not known",
         "this host cannot reach core:5432 (Name or service not known)", ""),
        ("unknown", None,
         "the connection to core cannot be checked, because this host has no bash"),
    ],
)  # fmt: skip
def test_a_failed_connection_between_hosts_is_a_problem_and_a_refused_one_is_not(
    lab, answer, message, note
) -> None:
    lab.facts["workers-b.lab.test"]["reaches core:5432"] = answer
    (host,) = [subject for subject in lab.check() if subject.name == "workers B"]
    assert [problem.message for problem in host.problems] == [message][: bool(message)]
    assert host.results[-1].note == note


def test_a_held_lock_is_a_note_and_no_problem(lab) -> None:
    owner = (
        '{"id":"1","who":"me@laptop","reason":"deploy of x","since":"2026-11-23T11:00:00+00:00"}'
    )
    lab.facts["backend.lab.test"]["lock"] = f"held 12 {owner}"
    report = lab.check()
    assert messages(report) == {}
    (note,) = notes(report)
    assert note.startswith("locked by me@laptop, since 2026-11-23 11:00:00 UTC")


def test_a_weak_secret_is_a_note_that_does_not_show_it(lab) -> None:
    lab.vault.fields = {**GOOD, "db_password": Secret("password1234")}
    report = lab.check()
    assert messages(report) == {}
    (note,) = notes(report[:1])
    assert note.startswith("db_password is weak: it ")
    assert "password1234" not in note


def test_hosts_receive_no_secret_but_the_login_at_the_registry(lab) -> None:
    lab.check()
    sent = "\n".join(run.script.reveal() for run in lab.transport.runs)
    assert not any(secret.reveal() in sent for secret in GOOD.values())
    assert "DOCKER_AUTH_CONFIG=" in sent


def test_each_host_tests_the_connections_that_its_containers_need(lab) -> None:
    lab.check()
    scripts = ((run.host, run.script.reveal()) for run in lab.transport.runs)
    tested = {host: script for host, script in scripts if CHECK in script}
    for port in (5432, 4317, 8000):
        assert f"--reach backend.lab.test:{port}" in tested["workers-b.lab.test"]
    assert "--reach workers-c.lab.test:5004" in tested["backend.lab.test"], "C has a scale of 2"


# --------------------------------------------------------------------------- local checks


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "first"], check=True)
    return tmp_path


def test_python_ssh_and_git_are_shown_with_their_versions() -> None:
    python, ssh, git = check.check_programs("ssh")
    assert (python.problems, ssh.problems, git.problems) == ((), (), ())
    assert ssh.detail.startswith("OpenSSH ")
    assert git.detail[0].isdigit()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "git is not installed on this machine"),
        ("#!/bin/sh\necho 'xcode-select: no tools' >&2\nexit 1", "xcode-select: no tools"),
    ],
)
def test_a_missing_git_is_a_problem_of_the_checkout_alone(
    repository, tmp_path: Path, monkeypatch, content: str, message: str
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ssh").symlink_to(shutil.which("ssh") or "ssh")
    if content:
        (tmp_path / "bin/git").write_text(content)
        (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert [result.name for result in check.check_programs("ssh")] == ["Python", "ssh"]
    (problem,) = check.check_checkout(Checkout(repository), None).problems
    assert message in problem.message
    assert problem.exit_code == 3


def test_a_shallow_clone_without_branches_is_a_note(repository, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "-C", str(repository), "tag", "v1"], check=True)
    shallow = ["clone", "-q", "--depth=1", "--branch=v1", f"file://{repository}", str(clone)]
    subprocess.run(["git", *shallow], check=True, capture_output=True)
    result = check.check_checkout(Checkout(clone), None)
    assert result.problems == ()
    assert "this shallow clone cannot show whether" in result.note


def test_a_machine_without_ssh_has_a_problem() -> None:
    _, ssh, *_ = check.check_programs("no-such-ssh")
    (problem,) = ssh.problems
    assert "no-such-ssh" in problem.message
    assert problem.exit_code == 5


def test_uncommitted_changes_and_unpushed_commits_are_both_found(repository) -> None:
    (repository / "new").write_text("")
    result = check.check_checkout(Checkout(repository), None)
    first, second = result.problems
    assert first.message == "the checkout has uncommitted changes (new)"
    assert second.message.endswith("is not on a remote branch, so CI has not built its image")
    assert {first.exit_code, second.exit_code} == {3}


def test_with_a_tag_the_state_of_the_checkout_does_not_matter(repository) -> None:
    (repository / "new").write_text("")
    result = check.check_checkout(Checkout(repository), "sha-abc1234")
    assert (result.detail, result.problems) == ("sha-abc1234", ())


def test_a_directory_that_is_no_checkout_is_a_problem_and_not_an_error(tmp_path) -> None:
    result = check.check_checkout(Checkout(tmp_path), None)
    assert "is not a git checkout" in result.problems[0].message


def test_a_setting_without_a_value_is_found(planned, release) -> None:
    name = "docker-compose.core.yml"
    release.files[name] += b"  x: {image: y, environment: {NEW_SETTING: , JWT_SECRET: }}\n"
    _, result = check.check_plan(planned)
    assert [problem.message for problem in result.problems] == [
        "commit abc1234 has no value for the setting NEW_SETTING of core"
    ]


def test_a_deploy_that_cannot_be_planned_is_a_problem_and_not_an_error() -> None:
    def fail() -> Plan:
        raise ConfigurationError("there is no such file", hint="Make it.")

    plan, result = check.check_plan(fail)
    assert plan is None
    assert [problem.exit_code for problem in result.problems] == [3]


@pytest.mark.parametrize("number", [0, 1])
def test_each_setting_of_this_checkout_has_a_value(product, deploy_id, root, number) -> None:
    host = product.hosts[number]
    release = Checkout(root).load_release(host.stack, "latest")
    _, result = check.check_plan(
        lambda: make_plan(product, host, release, deploy_id, DeployOptions())
    )
    assert result.problems == ()
