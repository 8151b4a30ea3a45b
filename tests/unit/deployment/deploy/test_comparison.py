"""Comparison of a release with what a host runs, before and after a deploy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ktrdr.deployment.deploy.comparison import (
    Action,
    Comparison,
    ServiceChange,
    applied_changes,
    compare,
)
from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.deploy.plan import Plan, make_plan
from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.hosts.health import ExpectedService
from ktrdr.deployment.hosts.host import DeployId
from ktrdr.deployment.releases.release import Release
from ktrdr.deployment.scripts.sections import split
from tests.unit.deployment.conftest import NOW, TAG, SimulatedHost, running_container
from tests.unit.deployment.histories import history_entry, history_lines

LABEL = "com.docker.compose"


@pytest.fixture
def host(planned: Callable[..., Plan]) -> SimulatedHost:
    """Return a host that runs all services of the core's plan."""
    return SimulatedHost(planned("core")).run_all()


def compared(host: SimulatedHost, **sections: list[str]) -> Comparison:
    return compare(host.plan, {**split(host.fetch_output()), **sections})


def changes(comparison: Comparison) -> list[ServiceChange]:
    return [change for change in comparison.services if change.action is not Action.UNCHANGED]


def test_a_host_that_matches_the_release_has_no_changes(host: SimulatedHost) -> None:
    comparison = compared(host)
    assert comparison.is_empty
    assert [change.service for change in comparison.services] == ["db", "backend", "prometheus"]
    (digest,) = comparison.digests[f"ghcr.io/ktrdr/ktrdr-backend:{TAG}"]
    assert digest.startswith("sha256:")


def test_changed_files_and_unfinished_deploys_are_changes(host: SimulatedHost) -> None:
    assert not compared(host, unfinished=["unfinished"]).is_empty
    host.files = ["+ .env.core"]
    comparison = compared(host)
    assert (comparison.files, comparison.is_empty) == (("+ .env.core",), False)


@pytest.mark.parametrize(
    ("change", "action", "reason"),
    [
        ({"name": "ghcr.io/ktrdr/ktrdr-backend:old"}, Action.RECREATED, f"old → {TAG}"),
        (
            {"image": "sha256:other", "labels": {f"{LABEL}.image": "sha256:other"}},
            Action.RECREATED,
            "its tag now refers to a different image",
        ),
        (
            {"labels": {f"{LABEL}.image": "sha256:other"}},
            Action.RECREATED,
            "Compose records its image differently now",
        ),
        (
            {"name": f"docker.io/ghcr/x:{TAG}"},
            Action.RECREATED,
            f"docker.io/ghcr/x:{TAG} → ghcr.io/ktrdr/ktrdr-backend:{TAG}",
        ),
        (
            {"labels": {f"{LABEL}.config-hash": "other"}},
            Action.RECREATED,
            "its configuration has changed",
        ),
        ({"state": {"Status": "created"}}, Action.RECREATED, "could not be started"),
        ({"state": {"Status": "exited"}}, Action.STARTED, "is exited"),
    ],
)
def test_each_difference_of_a_container_has_its_action_and_reason(
    host: SimulatedHost, change: dict[str, Any], action: Action, reason: str
) -> None:
    backend = host.containers["backend"]
    for key, value in change.items():
        backend[key] = {**backend[key], **value} if isinstance(value, dict) else value
    assert changes(compared(host)) == [ServiceChange("backend", action, reason)]


def test_an_image_that_the_host_lacks_has_to_be_pulled(host: SimulatedHost) -> None:
    (reason,) = {change.reason for change in changes(compared(host, images=[]))}
    assert reason == "its image is not on the host any more"


def test_another_version_of_compose_is_named_with_its_containers(host: SimulatedHost) -> None:
    host.containers["db"]["labels"][f"{LABEL}.version"] = "5.3.1"
    host.containers["backend"]["labels"][f"{LABEL}.version"] = "5.6.1"
    output = split(host.fetch_output())
    note = compare(host.plan, output, "v5.6.1").compose_note
    assert note.startswith(
        "db: Compose was 5.3.1 when these containers were made, and is 5.6.1 now"
    )
    del host.containers["db"]["labels"][f"{LABEL}.version"]
    output = split(host.fetch_output())
    assert compare(host.plan, output, "v5.6.1").compose_note == ""
    assert compare(host.plan, output).compose_note == "", "the version is unknown"


def test_a_missing_container_is_created(host: SimulatedHost) -> None:
    del host.containers["backend"]
    assert changes(compared(host)) == [
        ServiceChange("backend", Action.CREATED, "does not exist yet")
    ]


def test_only_running_workers_beyond_the_scale_are_removed(planned: Callable[..., Plan]) -> None:
    host = SimulatedHost(planned("workers")).run_all()
    host.run(replace(host.plan.expected[0], name="backtest-worker-2"))
    host.answers["backtest-worker-2"]["current_operation_id"] = "op-1"
    comparison = compared(host)
    assert changes(comparison) == [
        ServiceChange("backtest-worker-2", Action.REMOVED, "beyond the scale")
    ]
    assert comparison.destructive_effects == (
        "backtest-worker-2 will be stopped while it is running op-1",
    )


def test_the_removal_of_the_nfs_server_has_its_reason(
    external: Homelab, release_with_nfs: Release, deploy_id: DeployId
) -> None:
    plan = make_plan(external, external.hosts[0], release_with_nfs, deploy_id, DeployOptions())
    host = SimulatedHost(plan).run_all()
    assert compared(host).is_empty
    host.run(ExpectedService("nfs-server", "nfs:1", reports_version=False, worker_url=None))
    comparison = compared(host)
    assert changes(comparison) == [
        ServiceChange("nfs-server", Action.REMOVED, "core.nfs is external")
    ]
    assert comparison.destructive_effects == (
        "the NFS server will be removed: hosts lose the directories mounted from it",
    )


def test_the_comparison_contains_the_history(host: SimulatedHost) -> None:
    host.history = history_lines(history_entry(1), history_entry(2))
    assert compared(host).history == (history_entry(1), history_entry(2))


def test_a_host_without_any_output_lacks_all_services(host: SimulatedHost) -> None:
    comparison = compare(host.plan, {})
    assert {change.action for change in comparison.services} == {Action.CREATED}


# ------------------------------------------------------------------------------ after the deploy


def test_the_applied_changes_follow_from_the_containers() -> None:
    before = {
        "same": running_container("same"),
        "new-id": running_container("new-id"),
        "restarted": running_container("restarted"),
        "gone": running_container("gone"),
        "other": running_container("other"),
    }
    after = {
        "same": before["same"],
        "new-id": replace(before["new-id"], id="another"),
        "restarted": replace(before["restarted"], started_at=NOW),
        "added": running_container("added"),
        "other": before["other"],
    }
    expected = ["same", "new-id", "restarted", "added", "never"]
    assert applied_changes(before, after, expected) == (
        ServiceChange("same", Action.UNCHANGED),
        ServiceChange("new-id", Action.RECREATED),
        ServiceChange("restarted", Action.STARTED),
        ServiceChange("added", Action.CREATED),
        ServiceChange("never", Action.UNCHANGED),
        ServiceChange("gone", Action.REMOVED),
    )


def test_a_planned_action_is_labelled_as_one_that_has_yet_to_happen() -> None:
    assert Action.RECREATED.planned_label == "to be recreated"
    assert Action.UNCHANGED.planned_label == "unchanged"
