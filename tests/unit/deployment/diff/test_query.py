"""Comparing several hosts with a release, and saying what is not known."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ktrdr.deployment.deploy.comparison import Action
from ktrdr.deployment.diff.changes import ImageChange
from ktrdr.deployment.diff.query import Differ
from ktrdr.deployment.homelab.hosts import chosen
from ktrdr.deployment.releases.checkout import Checkout
from ktrdr.deployment.scripts.script import render_for_display
from ktrdr.errors import HostUnreachable
from ktrdr.secret import Secret
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.conftest import Host

VALUES = {
    name: Secret(f"value-of-{name.lower()}")
    for name in (
        *("DB_USER", "DB_PASSWORD", "JWT_SECRET", "GF_ADMIN_PASSWORD"),
        *("WORKER_TOKEN", "DOCKER_AUTH_CONFIG"),
    )
}


class Compared:
    """A core host that has the release, and a comparison with it."""

    def __init__(self, inventory, planned, checkout) -> None:
        self.place = chosen(inventory, ["core"])[0]
        self.plan = planned()
        self.host = Host(self.plan).run_all()
        self.transport = RecordingTransport()
        self.checkout = checkout
        self.more: dict[str, list[str]] = {}

    def look(self, values: Any = None) -> Any:
        output = self.host.fetch_output()
        output += "".join(f"== {name}\n" + "".join(f"{x}\n" for x in lines)
                          for name, lines in self.more.items())  # fmt: skip
        self.transport.answer(Answer(stdout=output), host=self.place.host)
        differ = Differ(self.checkout, self.transport, "mark", values and {self.place.host: values})
        (found,) = differ.all({self.place: self.plan})
        return found


@pytest.fixture
def compared(inventory, planned, tmp_path) -> Compared:
    return Compared(inventory, planned, Checkout(tmp_path))


def test_a_host_that_is_as_it_should_be_would_not_change(compared) -> None:
    found = compared.look()
    assert not found.changed
    assert found.error is None
    assert found.commits == {}


def test_without_the_vault_no_secret_is_sent_and_the_assumption_is_said(compared) -> None:
    found = compared.look()
    (run,) = compared.transport.runs
    assert "export DB_PASSWORD=value" not in run.script.reveal()
    assert "the secrets are taken for unchanged; --secrets asks the vault for them" in found.notes


def test_with_the_vault_its_secrets_are_what_is_compared(compared) -> None:
    compared.more = {"unchanged": ["db hash-of-db", "backend old", "prometheus hash-of-prometheus"]}
    compared.host.containers["backend"]["labels"]["com.docker.compose.config-hash"] = "old"
    found = compared.look(VALUES)
    (run,) = compared.transport.runs
    assert "export DB_PASSWORD=value-of-db_password" in run.script.reveal()
    changed = [change for change in found.services if change.action is not Action.UNCHANGED]
    assert [(change.service, change.reason) for change in changed] == [
        ("backend", "changed: its secrets")
    ]
    assert not any("--secrets" in note for note in found.notes)


def test_another_image_is_named_with_the_services_that_run_it(compared) -> None:
    old = "ghcr.io/ktrdr/ktrdr-backend:sha-0ld0000"
    compared.host.containers["backend"]["name"] = old
    found = compared.look()
    new = "ghcr.io/ktrdr/ktrdr-backend:sha-abc1234"
    assert found.images == (ImageChange(old, new, ("backend",)),)
    assert found.commits == {"sha-0ld0000": None}, "this checkout knows neither"


def test_the_inventorys_values_are_compared_with_those_of_the_last_deploy(compared) -> None:
    entry = {"schema": 1, "event": "begun", "id": "1", "kind": "deploy", "service": "all",
             "tag": "t", "commit": None, "configuration": "c", "who": "me",
             "at": "2026-11-23T12:00:00+00:00", "profiles": [], "of": "",
             "settings": {**dict(compared.plan.site.settings), "BACKEND_PORT": "8001"}}  # fmt: skip
    end = {"schema": 1, "event": "ended", "id": "1", "outcome": "deployed", "duration_s": 1.0,
           "images": {}, "reason": ""}  # fmt: skip
    assert any("has no record" in note for note in compared.look().notes)
    compared.more = {"history": [json.dumps(entry), json.dumps(end)]}
    found = compared.look()
    assert [(each.name, each.old, each.new) for each in found.settings] == [
        ("BACKEND_PORT", "8001", "8000")
    ]
    assert not any("has no record" in note for note in found.notes)


def test_what_an_earlier_deploy_did_not_finish_would_be_done(compared) -> None:
    compared.more = {"unfinished": ["unfinished"]}
    found = compared.look()
    assert found.unfinished
    assert found.changed


def test_another_way_of_delivering_secrets_is_said(compared) -> None:
    compared.more = {"delivery": ["present backend"]}
    assert "the containers of core would be given their secrets as environment" in (
        compared.look().notes
    )


def test_a_tag_that_the_registry_has_moved_is_a_change(compared, planned, release) -> None:
    object.__setattr__(release, "tag", "latest")
    compared.plan = planned()
    compared.host = Host(compared.plan).run_all()
    image = "ghcr.io/ktrdr/ktrdr-backend:latest"
    compared.more = {"registry": [f"{image} 0 sha256:other"]}
    found = compared.look(VALUES)
    changed = [change for change in found.services if change.action is not Action.UNCHANGED]
    assert [(each.service, each.reason) for each in changed] == [
        ("backend", "its tag has another image now")
    ]
    assert any("has moved is not known" in note for note in compared.look().notes)


def test_a_host_that_cannot_be_looked_at_hides_no_other(inventory, planned, tmp_path) -> None:
    places = chosen(inventory, [])
    plans = {
        place: planned(place.target, **({"node": place.node} if place.node else {}))
        for place in places
    }
    transport = RecordingTransport()
    for place, plan in plans.items():
        transport.answer(Answer(stdout=Host(plan).run_all().fetch_output()), host=place.host)
    transport.answer(Answer(error=HostUnreachable("gone")), host=places[1].host)
    found = Differ(Checkout(tmp_path), transport, "mark").all(plans)
    assert [each.error and each.error.message for each in found] == [None, "gone", None]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("", "could not be asked about its directory /dev/shm"),
        ("== files\n== containers\n", "could not be asked about its containers"),
        ("== files\n== hashes\n", "does not accept the release's configuration"),
    ],
)
def test_what_fails_on_a_host_is_said_by_where_it_failed(compared, output, words) -> None:
    compared.transport.answer(Answer(1, stdout=output, stderr="no"), host=compared.place.host)
    found = Differ(compared.checkout, compared.transport, "mark").all(
        {compared.place: compared.plan}
    )
    assert words in str(found[0].error)


def test_the_script_changes_nothing(compared) -> None:
    differ = Differ(compared.checkout, compared.transport, "mark", {"x": VALUES})
    lines = render_for_display(differ.script(compared.plan)).splitlines()
    shown = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    for word in (" pull ", " up ", " rm --stop", "mv ", "docker rm", "docker start"):
        assert word not in shown
    written = [line for line in shown.splitlines() if "mkdir" in line or "tar -x" in line]
    assert written
    assert all('"$release"' in line for line in written)
    assert "--staging /dev/shm/ktrdr-diff-mark" in shown
