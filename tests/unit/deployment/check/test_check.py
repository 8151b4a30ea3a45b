"""The check: everything at once, nothing changed, and the exit code of the first stumble."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import pytest

from ktrdr.deployment.check.query import Checker, exit_code
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.homelab.hosts import chosen
from ktrdr.errors import HostUnreachable, SecretsError
from ktrdr.secret import Scrubber, Secret
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.conftest import Host

GOOD = {
    name: Secret(hashlib.sha256(name.encode()).hexdigest()[:40])
    for name in ("db_username", "db_password", "jwt_secret", "grafana_password", "ghcr_token")
}
CHECK, REGISTRY = "Usage: check.sh", "Usage: ask_registry.sh"


class Vault:
    """A source of secrets that counts how often it is asked."""

    def __init__(self, fields: Mapping[str, Secret] | SecretsError) -> None:
        self.fields = fields
        self.asked = 0

    def fetch(self) -> Mapping[str, Secret]:
        self.asked += 1
        if isinstance(self.fields, SecretsError):
            raise self.fields
        return self.fields


class Lab:
    """Three hosts that are well; a test changes what it is about."""

    def __init__(self, inventory, planned, clock) -> None:
        self.places = chosen(inventory, [])
        self.plans: dict[str, Plan] = {
            place.host: planned(place.target, **({"node": place.node} if place.node else {}))
            for place in self.places
        }
        self.facts = {host: Host(plan).facts for host, plan in self.plans.items()}
        self.transport = RecordingTransport()
        self.vault = Vault(GOOD)
        self.inventory, self.clock = inventory, clock
        self.registry = "0 sha256:0123456789abcdef"
        self.lost: list[str] = []

    def check(self):
        for host, plan in self.plans.items():
            known = "".join(f"{name}={value}\n" for name, value in self.facts[host].items())
            own = sorted({service.image for service in plan.wanted if service.says_version})
            heard = "".join(f"{image} {self.registry}\n" for image in own)
            self.transport.answer(Answer(stdout=known), host=host, containing=CHECK)
            self.transport.answer(Answer(stdout=heard), host=host, containing=REGISTRY)
        for host in self.lost:
            no = HostUnreachable("there is no way to it", hint="Find one.")
            self.transport.answer(Answer(error=no), host=host)
        plans = {place: self.plans[place.host] for place in self.places}
        return Checker(
            self.inventory, plans, self.vault, self.transport, Scrubber(), self.clock
        ).all()


@pytest.fixture
def lab(inventory, planned, clock) -> Lab:
    return Lab(inventory, planned, clock)


def complaints(report) -> dict[str, list[str]]:
    return {
        each.place: [finding.complaint for finding in each.findings]
        for each in report
        if each.findings
    }


def test_a_good_lab_has_nothing_to_complain_of(lab) -> None:
    report = lab.check()
    assert complaints(report) == {}
    assert exit_code(report) == 0
    assert [each.place for each in report] == [
        "vault",
        "registry",
        "core",
        "workers B",
        "workers C",
    ]
    assert lab.vault.asked == 1


def test_all_that_is_wrong_anywhere_is_found_at_once(lab) -> None:
    lab.vault.fields = {**GOOD, "jwt_secret": Secret("short")}
    lab.facts["backend.lab.test"]["docker"] = "down"
    lab.facts["workers-b.lab.test"]["shared"] = "missing"
    lab.lost = ["workers-c.lab.test"]
    assert complaints(lab.check()) == {
        "vault": ["jwt_secret is shorter than 32 characters"],
        "core": ["the Docker daemon does not run"],
        "workers B": ["the shared directory /mnt/ktrdr-shared is missing"],
        "workers C": ["there is no way to it"],
    }


def test_the_exit_code_is_that_of_the_first_stumble(lab) -> None:
    lab.vault.fields = {**GOOD, "db_password": Secret("")}
    lab.facts["backend.lab.test"]["docker"] = "down"
    assert exit_code(lab.check()) == 4


def test_a_vault_that_refuses_is_one_finding_and_the_registry_is_not_asked(lab) -> None:
    lab.vault.fields = SecretsError("1Password is not signed in", hint="Sign in.")
    report = lab.check()
    assert complaints(report) == {"vault": ["1Password is not signed in"]}
    assert "vault gave no ghcr_token" in report[1].points[0].remark
    assert not any("--ask ghcr.io" in run.script.reveal() for run in lab.transport.runs)


def test_an_image_that_the_registry_lacks_is_told_once_for_all_hosts(lab) -> None:
    lab.registry = "1 Error response from daemon: manifest unknown: manifest unknown"
    report = lab.check()
    assert complaints(report) == {
        "registry": ["the image ghcr.io/ktrdr/ktrdr-backend:sha-abc1234 is not in the registry"]
    }
    assert exit_code(report) == 7


@pytest.mark.parametrize(
    ("answer", "complaint", "remark"),
    [
        ("open", None, ""),
        ("1 bash: line 1: connect: Connection refused", None, "nobody listens on core:5432 (yet)"),
        ("124 ", "it does not reach core:5432 (no answer)", ""),
        ("1 bash: core: Name or service not known",
         "it does not reach core:5432 (Name or service not known)", ""),
        ("unknown", None, "whether it reaches core cannot be tried: it has no bash"),
    ],
)  # fmt: skip
def test_silence_between_hosts_is_a_fault_and_nobody_there_yet_is_not(
    lab, answer, complaint, remark
) -> None:
    lab.facts["workers-b.lab.test"]["reaches core:5432"] = answer
    (place,) = [each for each in lab.check() if each.place == "workers B"]
    assert [finding.complaint for finding in place.findings] == [complaint][: bool(complaint)]
    assert place.points[-1].remark == remark


def test_somebody_at_work_on_a_host_is_worth_a_remark_and_no_finding(lab) -> None:
    note = '{"id":"1","who":"me@laptop","reason":"deploy of x","since":"2026-11-23T11:00:00+00:00"}'
    lab.facts["backend.lab.test"]["lock"] = f"held 12 {note}"
    report = lab.check()
    assert complaints(report) == {}
    (remark,) = [point.remark for place in report for point in place.points if point.remark]
    assert remark.startswith("somebody works on it: me@laptop, since 2026-11-23 11:00:00 UTC")


def test_a_secret_that_can_be_guessed_is_worth_a_remark_without_a_word_of_it(lab) -> None:
    lab.vault.fields = {**GOOD, "db_password": Secret("password1234")}
    report = lab.check()
    assert complaints(report) == {}
    (remark,) = [point.remark for point in report[0].points if point.remark]
    assert remark.startswith("db_password is weak: it ")
    assert "password1234" not in remark


def test_hosts_are_told_of_no_secret_but_the_login_for_the_registry(lab) -> None:
    lab.check()
    sent = "\n".join(run.script.reveal() for run in lab.transport.runs)
    assert not any(secret.reveal() in sent for secret in GOOD.values())
    assert "DOCKER_AUTH_CONFIG=" in sent


def test_each_host_tries_what_its_containers_connect_to(lab) -> None:
    lab.check()
    scripts = ((run.host, run.script.reveal()) for run in lab.transport.runs)
    tried = {host: script for host, script in scripts if CHECK in script}
    for port in (5432, 4317, 8000):
        assert f"--reach backend.lab.test:{port}" in tried["workers-b.lab.test"]
    assert "--reach workers-c.lab.test:5004" in tried["backend.lab.test"], "C has a scale of 2"
