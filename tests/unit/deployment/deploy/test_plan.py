"""Plans: services, profiles, pinned images, and what identifies and locks a deploy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.deploy.plan import Plan, StepKind, make_plan
from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.hosts.history import DeployKind
from ktrdr.deployment.hosts.host import DeployId
from ktrdr.deployment.hosts.lock import LockOwner
from ktrdr.deployment.releases.release import Release
from ktrdr.deployment.scripts.script import render
from ktrdr.errors import UsageError
from ktrdr.secret import Secret
from tests.unit.deployment.conftest import COMMIT, DEPLOY_ID, NOW, TAG
from tests.unit.deployment.harness import earlier_entry

IMAGE = f"ghcr.io/ktrdr/ktrdr-backend:{TAG}"
Planned = Callable[..., Plan]


def service_names(plan: Plan) -> list[str]:
    return [service.name for service in plan.expected]


def script(plan: Plan, kind: StepKind) -> str:
    step = plan.step(kind)
    assert step
    program = step.script.program
    return " ".join([*step.script.arguments, *(program.arguments if program else ())])


def test_a_plan_has_all_steps_in_order(planned: Planned) -> None:
    assert [step.kind for step in planned().steps] == list(StepKind)
    without_check = [kind for kind in StepKind if kind not in (StepKind.CHECK, StepKind.START)]
    assert [step.kind for step in planned(skip_validation=True).steps] == without_check
    assert planned(skip_validation=True).step(StepKind.CHECK) is None


def test_the_history_entry_records_release_and_settings(planned: Planned, release) -> None:
    plan = planned("workers", "C", profiles=("scale-3",))
    entry = plan.entry
    assert (entry.id, entry.kind, entry.service) == (DEPLOY_ID, DeployKind.DEPLOY, "all")
    assert (entry.tag, entry.commit) == (TAG, COMMIT)
    assert entry.configuration == release.configuration_hash
    assert entry.profiles == ("scale-2", "scale-3")
    assert entry.settings == dict(plan.config.settings)


def test_images_are_complete_and_own_programs_report_their_version(planned: Planned) -> None:
    expected = {service.name: service for service in planned("core").expected}
    assert expected["db"].image == "timescale/timescaledb:2"
    assert expected["backend"].image == IMAGE
    assert [name for name, service in expected.items() if service.reports_version] == ["backend"]


# ------------------------------------------------------------------------- services and profiles


def test_one_service_can_be_deployed_without_the_others(planned: Planned) -> None:
    plan = planned("core", service="backend")
    assert service_names(plan) == ["backend"]
    assert [service.name for service in plan.dependencies] == ["db"]
    assert plan.service == "backend"


def test_an_unknown_service_is_answered_with_the_closest_name(planned: Planned) -> None:
    with pytest.raises(UsageError, match=r"no service 'bakend'; did you mean backend\?") as raised:
        planned("core", service="bakend")
    assert raised.value.hint == "Valid names: db, backend, prometheus, all."


def test_an_unknown_profile_is_rejected(planned: Planned) -> None:
    with pytest.raises(UsageError, match="no profile 'scale-4'") as raised:
        planned("workers", profiles=("scale-4",))
    assert raised.value.hint == "Valid names: scale-2, scale-3."


def test_a_service_of_a_profile_needs_the_profile(planned: Planned) -> None:
    with pytest.raises(UsageError, match="runs only with a profile that is not selected") as raised:
        planned("workers", service="backtest-worker-3")
    assert raised.value.hint == "Select a profile with --profile; backtest-worker-3 has: scale-3."
    plan = planned("workers", service="backtest-worker-3", profiles=("scale-3",))
    assert service_names(plan) == ["backtest-worker-3"]


@pytest.mark.parametrize(
    ("node", "scale", "workers", "surplus"),
    [
        ("B", None, 2, ["backtest-worker-2", "training-worker-2", "backtest-worker-3"]),
        ("C", None, 4, ["backtest-worker-3"]),
        ("C", 1, 2, ["backtest-worker-2", "training-worker-2", "backtest-worker-3"]),
        ("B", 3, 5, []),
    ],
)
def test_the_scale_selects_workers_and_stops_those_beyond(
    planned: Planned, node: str, scale: int | None, workers: int, surplus: list[str]
) -> None:
    plan = planned("workers", node, scale=scale)
    assert len(plan.expected) == workers
    assert list(plan.surplus) == surplus


def test_a_deploy_of_one_service_stops_no_other(planned: Planned) -> None:
    assert planned("workers", service="backtest-worker-1").surplus == ()
    assert planned("core").surplus == ()


# ----------------------------------------------------------------------------------- the NFS server


def core_plan(
    product: Homelab, release: Release, deploy_id: DeployId, *, service: str = "all", **options: Any
) -> Plan:
    return make_plan(
        product, product.hosts[0], release, deploy_id, DeployOptions(**options), service=service
    )


def test_the_nfs_server_runs_by_default_at_any_scale_of_the_workers(
    product: Homelab, release_with_nfs: Release, deploy_id: DeployId
) -> None:
    plan = core_plan(product, release_with_nfs, deploy_id, scale=2)
    assert service_names(plan) == ["db", "backend", "prometheus", "nfs-server"]
    assert (plan.entry.profiles, plan.surplus) == (("nfs",), ())
    options = plan.check_options()
    assert options[options.index("--shared-is-mounted") + 1] == "no"


def test_an_external_share_removes_the_nfs_server_of_an_earlier_deploy(
    external: Homelab, release_with_nfs: Release, deploy_id: DeployId
) -> None:
    plan = core_plan(external, release_with_nfs, deploy_id)
    assert service_names(plan) == ["db", "backend", "prometheus"]
    assert (plan.entry.profiles, plan.surplus) == ((), ("nfs-server",))
    assert core_plan(external, release_with_nfs, deploy_id, service="backend").surplus == ()
    chosen = core_plan(external, release_with_nfs, deploy_id, profiles=("nfs",))
    assert "nfs-server" in service_names(chosen)
    assert chosen.surplus == ()
    with pytest.raises(UsageError, match="runs only with a profile that is not selected"):
        core_plan(external, release_with_nfs, deploy_id, service="nfs-server")


def test_a_release_before_the_profile_is_planned_without_it(
    product: Homelab, release: Release, deploy_id: DeployId
) -> None:
    assert core_plan(product, release, deploy_id).entry.profiles == ()


# ---------------------------------------------------------------------------------------- redeploys


def test_a_redeploy_takes_settings_profiles_and_digests_from_the_history(planned: Planned) -> None:
    settings = {"IMAGE_NAME": "ghcr.io/ktrdr/ktrdr-backend", "IMAGE_TAG": "sha-0000001"}
    old_image = "ghcr.io/ktrdr/ktrdr-backend:sha-0000001"
    entry = earlier_entry(
        planned("workers"),
        profiles=("scale-2", "gone"),
        settings=settings,
        images={old_image: "sha256:old", "other:1": "sha256:other"},
    )
    plan = planned(
        "workers",
        scale=3,
        kind=DeployKind.ROLLBACK,
        redeploy_of=entry,
        rolled_back_from="failed",
    )
    assert dict(plan.config.settings) == settings
    assert plan.entry.profiles == ("scale-2",), "the recorded ones that the release still has"
    assert len(plan.expected) == 4
    assert {service.image for service in plan.expected} == {old_image}
    assert plan.pinned == ((old_image, "sha256:old"),)
    assert (plan.entry.kind, plan.entry.rolled_back_from) == (DeployKind.ROLLBACK, "failed")


def test_an_image_whose_name_has_a_digest_is_not_pinned_to_another_one(
    product, release, deploy_id
) -> None:
    db = "docker.io/timescale/timescaledb:2@sha256:0123"
    compose = release.files["docker-compose.core.yml"].replace(
        b"timescale/timescaledb:2", db.encode()
    )
    release = replace(release, files={**release.files, "docker-compose.core.yml": compose})
    entry = earlier_entry(core_plan(product, release, deploy_id), images={db: "sha256:0123"})
    plan = make_plan(
        product, product.hosts[0], release, deploy_id, DeployOptions(), redeploy_of=entry
    )
    assert db in {service.image for service in plan.expected}
    assert plan.pinned == ()


# --------------------------------------------------------------------------------------------- lock


def test_a_deploy_locks_the_host_for_itself(planned: Planned, deploy_id: DeployId) -> None:
    plan = planned()
    assert plan.lock_owner == LockOwner(deploy_id, f"deploy of {TAG}")
    assert plan.lock_owner.to_json() in script(plan, StepKind.LOCK)
    assert plan.lock_owner.to_json() in script(plan, StepKind.APPLY)


def test_a_deploy_within_another_requires_the_lock_of_the_other(planned: Planned) -> None:
    other = LockOwner(DeployId("other", "eve@pc", NOW - timedelta(minutes=1)), "deploy of b")
    plan = planned(kind=DeployKind.AUTOMATIC_ROLLBACK, lock_owner=other)
    assert plan.lock_owner == other
    assert other.to_json() in script(plan, StepKind.APPLY)
    own_recovery = f'"id": "{DEPLOY_ID}-recovery"'
    assert own_recovery in script(plan, StepKind.APPLY)
    assert f"a cut-off automatic rollback of {TAG}" in script(plan, StepKind.APPLY)


# --------------------------------------------------------------------------------------- supervisor


def option(plan: Plan, name: str) -> str:
    step = plan.step(StepKind.APPLY)
    assert step
    assert step.script.program
    arguments = step.script.program.arguments
    return arguments[arguments.index(name) + 1]


def test_a_host_waits_a_minute_longer_for_the_confirmation_than_for_health(planned) -> None:
    assert option(planned(health_timeout=30), "--confirm-within") == "90"
    assert option(planned(confirm_within=5), "--confirm-within") == "5"


def test_only_a_detached_deploy_is_confirmed_by_the_host(planned) -> None:
    assert option(planned(), "--detached") == "no"
    assert option(planned(is_detached=True), "--detached") == "yes"


def test_the_program_of_the_supervisor_contains_no_secret(planned) -> None:
    step = planned().step(StepKind.APPLY)
    values = {name: Secret(f"hidden-{name}") for name in step.script.secrets}
    text = render(step.script, values).reveal()
    program = text.partition("program() {")[2].partition("-- end of payload --\n}")[0]
    assert "apply_new() {" in program
    assert "hidden" not in program
