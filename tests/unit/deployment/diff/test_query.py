"""Comparison of several hosts with a release, and notes on its limits."""

from __future__ import annotations

from typing import Any

import pytest

from ktrdr.deployment.deploy.comparison import Action
from ktrdr.deployment.diff.changes import HostDiff, ImageChange
from ktrdr.deployment.diff.query import Differ
from ktrdr.deployment.releases.checkout import Checkout
from ktrdr.deployment.scripts.script import render_for_display
from ktrdr.errors import HostUnreachable
from ktrdr.secret import Secret
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.conftest import SimulatedHost
from tests.unit.deployment.histories import history_entry, history_lines
from tests.unit.deployment.sample_hosts import script_output

VALUES = {
    name: Secret(f"value-of-{name.lower()}")
    for name in (
        *("DB_USER", "DB_PASSWORD", "JWT_SECRET", "GF_ADMIN_PASSWORD"),
        *("WORKER_TOKEN", "DOCKER_AUTH_CONFIG"),
    )
}


class ComparedHost:
    """A core host that runs the release, and its comparison with it."""

    def __init__(self, planned, checkout) -> None:
        self.plan = planned()
        self.simulated = SimulatedHost(self.plan).run_all()
        self.transport = RecordingTransport()
        self.checkout = checkout
        self.further_sections: dict[str, list[str]] = {}

    def diff(self, values: Any = None) -> HostDiff:
        host = self.plan.host
        output = self.simulated.fetch_output() + script_output(self.further_sections)
        self.transport.answer(Answer(stdout=output), host=host.address)
        differ = Differ(self.checkout, self.transport, "mark", values and {host.address: values})
        (diff,) = differ.diff_hosts({host: self.plan})
        return diff


@pytest.fixture
def compared(planned, tmp_path) -> ComparedHost:
    return ComparedHost(planned, Checkout(tmp_path))


def test_a_host_that_runs_the_release_would_not_change(compared) -> None:
    diff = compared.diff()
    assert not diff.has_changes
    assert diff.error is None
    assert diff.commits == {}


def test_without_the_vault_no_secret_is_sent_and_a_note_says_so(compared) -> None:
    diff = compared.diff()
    (run,) = compared.transport.runs
    assert "export DB_PASSWORD=value" not in run.script.reveal()
    assert (
        "secrets are assumed unchanged; use --secrets to compare them with the vault" in diff.notes
    )


def test_with_the_vault_secrets_are_compared(compared) -> None:
    compared.further_sections = {
        "unchanged": ["db hash-of-db", "backend old", "prometheus hash-of-prometheus"]
    }
    compared.simulated.containers["backend"]["labels"]["com.docker.compose.config-hash"] = "old"
    diff = compared.diff(VALUES)
    (run,) = compared.transport.runs
    assert "export DB_PASSWORD=value-of-db_password" in run.script.reveal()
    changed = [change for change in diff.services if change.action is not Action.UNCHANGED]
    assert [(change.service, change.reason) for change in changed] == [
        ("backend", "changed: its secrets")
    ]
    assert not any("--secrets" in note for note in diff.notes)


def test_another_image_is_named_with_the_services_that_run_it(compared) -> None:
    old = "ghcr.io/ktrdr/ktrdr-backend:sha-0ld0000"
    compared.simulated.containers["backend"]["name"] = old
    diff = compared.diff()
    new = "ghcr.io/ktrdr/ktrdr-backend:sha-abc1234"
    assert diff.images == (ImageChange(old, new, ("backend",)),)
    assert diff.commits == {"sha-0ld0000": None}, "this checkout knows neither"


def test_inventory_values_are_compared_with_those_of_the_last_deploy(compared) -> None:
    settings = {**dict(compared.plan.config.settings), "BACKEND_PORT": "8001"}
    assert any("has no record" in note for note in compared.diff().notes)
    compared.further_sections = {"history": history_lines(history_entry(1, settings=settings))}
    diff = compared.diff()
    assert [(each.name, each.old, each.new) for each in diff.settings] == [
        ("BACKEND_PORT", "8001", "8000")
    ]
    assert not any("has no record" in note for note in diff.notes)


def test_a_deploy_that_was_cut_off_would_be_repeated(compared) -> None:
    compared.further_sections = {"unfinished": ["unfinished"]}
    diff = compared.diff()
    assert diff.is_unfinished
    assert diff.has_changes


def test_another_delivery_of_secrets_is_noted(compared) -> None:
    compared.further_sections = {"delivery": ["present backend"]}
    assert "the containers of core would receive their secrets as environment variables" in (
        compared.diff().notes
    )


def test_a_tag_that_moved_in_the_registry_is_a_change(compared, planned, release) -> None:
    object.__setattr__(release, "tag", "latest")
    compared.plan = planned()
    compared.simulated = SimulatedHost(compared.plan).run_all()
    image = "ghcr.io/ktrdr/ktrdr-backend:latest"
    compared.further_sections = {"registry": [f"{image} 0 sha256:other"]}
    diff = compared.diff(VALUES)
    changed = [change for change in diff.services if change.action is not Action.UNCHANGED]
    assert [(each.service, each.reason) for each in changed] == [
        ("backend", "its tag now refers to a different image")
    ]
    assert any(
        "use --secrets to check whether the tag latest has moved" in note
        for note in compared.diff().notes
    )


def test_an_unreachable_host_does_not_hide_the_others(product, planned, tmp_path) -> None:
    plans = {host: planned(host.stack, node=host.node) for host in product.hosts}
    transport = RecordingTransport()
    for host, plan in plans.items():
        output = SimulatedHost(plan).run_all().fetch_output()
        transport.answer(Answer(stdout=output), host=host.address)
    transport.answer(Answer(error=HostUnreachable("gone")), host=product.hosts[1].address)
    diffs = Differ(Checkout(tmp_path), transport, "mark").diff_hosts(plans)
    assert [diff.error and diff.error.message for diff in diffs] == [None, "gone", None]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("", "cannot be queried about its directory /dev/shm"),
        ("== files\n== containers\n", "cannot be queried about its containers"),
        ("== files\n== hashes\n", "rejects the release's configuration"),
    ],
)
def test_the_error_of_a_failed_script_depends_on_its_section(compared, output, words) -> None:
    host = compared.plan.host
    compared.transport.answer(Answer(1, stdout=output, stderr="no"), host=host.address)
    differ = Differ(compared.checkout, compared.transport, "mark")
    (diff,) = differ.diff_hosts({host: compared.plan})
    assert words in str(diff.error)


def test_the_script_changes_nothing(compared) -> None:
    differ = Differ(compared.checkout, compared.transport, "mark", {"x": VALUES})
    lines = render_for_display(differ.build_script(compared.plan)).splitlines()
    shown = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    for word in (" pull ", " up ", " rm --stop", "mv ", "docker rm", "docker start"):
        assert word not in shown
    written = [line for line in shown.splitlines() if "mkdir" in line or "tar -x" in line]
    assert written
    assert all('"$release"' in line for line in written)
    assert "--staging /dev/shm/ktrdr-diff-mark" in shown
