"""Restart and stop: the order, the wait for health, and the lock."""

from __future__ import annotations

import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.deployment.clock import Clock
from ktrdr.deployment.hosts.host import DeployId, Host
from ktrdr.deployment.hosts.lock import LOCK_LOST, HostLock, LockOwner
from ktrdr.deployment.product import Product
from ktrdr.deployment.scripts.script import quote
from ktrdr.deployment.services import ServiceManager, dependency_levels
from ktrdr.errors import DeploymentFailed, Interrupted, Locked, NotFound, UsageError
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.sample_hosts import (
    CORE,
    NOW,
    TAG,
    B,
    container,
    container_json,
    script_output,
)

RESTART = "Usage: restart.sh"
OWNER = LockOwner(DeployId("x", "ada@laptop", NOW), "restart")
NEEDS_DB = "db:service_healthy:false"
BACKEND_REPORT = json.dumps({"status": "ok", "version": {"image_tag": TAG}, "database": "ok"})


class ManagedHost:
    """A simulated host, and the manager of its services."""

    def __init__(self, host: Host, product: Product, clock: Clock) -> None:
        self.transport = RecordingTransport()
        lock = HostLock(self.transport, host, OWNER)
        lock.acquire()
        self.progress: list[str] = []
        self.manager = ServiceManager(
            host, lock, product, self.transport, self.progress.append, 30.0, clock=clock
        )

    def set_containers(self, *containers: str, reports: tuple[str, ...] = ()) -> None:
        output = script_output(
            {"clock": [str(int(NOW.timestamp()))], "containers": containers, "answers": reports}
        )
        self.transport.answer(Answer(stdout=output), containing="Usage: verify.sh")

    def changes(self) -> list[list[str]]:
        """Return the verb of each script that changes services, with the containers' ids."""
        changes = []
        for run in self.transport.runs:
            text = run.script.reveal()
            for verb in ("restart", "stop"):
                if f"Usage: {verb}.sh" in text:
                    call = shlex.split(text.partition("run() {\n")[2].splitlines()[0])
                    changes.append([verb, *(word for word in call if "id-of" in word)])
        return changes


@pytest.fixture
def core(product, clock) -> ManagedHost:
    host = ManagedHost(CORE, product, clock)
    host.set_containers(
        container_json("backend", depends_on=NEEDS_DB),
        container_json("db", "postgres:17"),
        container_json("jaeger", "jaeger:2"),
        reports=(f"backend {BACKEND_REPORT}",),
    )
    return host


def test_each_service_is_restarted_after_its_dependencies(core: ManagedHost) -> None:
    after = core.manager.restart(())
    assert core.changes() == [
        ["restart", "id-of-db", "id-of-jaeger"],
        ["restart", "id-of-backend"],
    ]
    assert set(after) == {"backend", "db", "jaeger"}
    assert core.progress == ["restart db, jaeger", "restart backend"]


def test_each_service_is_stopped_before_its_dependencies(core: ManagedHost) -> None:
    core.manager.stop(())
    assert core.changes() == [["stop", "id-of-backend"], ["stop", "id-of-db", "id-of-jaeger"]]


def test_only_named_services_are_restarted(core: ManagedHost) -> None:
    core.manager.restart(("jaeger",))
    assert core.changes() == [["restart", "id-of-jaeger"]]


def test_an_unknown_service_is_an_error_before_anything_changes(core: ManagedHost) -> None:
    with pytest.raises(UsageError, match="did you mean db"):
        core.manager.restart(("jaeger", "bd"))
    assert not core.changes()


def test_a_host_without_containers_cannot_be_restarted(core: ManagedHost) -> None:
    core.set_containers()
    with pytest.raises(NotFound, match="nothing is deployed on core"):
        core.manager.restart(())


def test_a_service_that_stays_unhealthy_is_named_with_the_command_for_its_log(
    core: ManagedHost,
) -> None:
    core.set_containers(container_json("db", "postgres:17", Health={"Status": "starting"}))
    with pytest.raises(DeploymentFailed) as failure:
        core.manager.restart(())
    assert failure.value.message == "db on core did not become healthy within 30 s: it is starting"
    assert failure.value.hint == "See its log: `ktrdr deploy logs core --service db`."
    assert core.progress.count("waiting: db is starting") == 1


def test_services_that_depend_on_a_failed_one_are_not_restarted(core: ManagedHost) -> None:
    core.set_containers(
        container_json("backend", depends_on=NEEDS_DB),
        container_json("db", "postgres:17", Status="exited", ExitCode=1),
    )
    with pytest.raises(DeploymentFailed, match=r"db on core .* it exited with code 1"):
        core.manager.restart(())
    assert core.changes() == [["restart", "id-of-db"]]


def test_our_own_programs_must_report_that_they_are_healthy(product, clock) -> None:
    host = ManagedHost(B, product, clock)
    report = {"version": TAG, "registered": False, "registration_error": "refused"}
    host.set_containers(container_json("worker-1"), reports=(f"worker-1 {json.dumps(report)}",))
    with pytest.raises(DeploymentFailed, match="it could not register: refused"):
        host.manager.restart(())


def test_nothing_changes_after_the_lock_was_lost(core: ManagedHost) -> None:
    core.transport.answer(Answer(exit_code=LOCK_LOST), containing=RESTART)
    with pytest.raises(Locked):
        core.manager.restart(())
    assert len(core.changes()) == 1


def test_each_change_checks_first_that_the_lock_is_held(core: ManagedHost) -> None:
    core.manager.restart(())
    for run in core.transport.runs:
        text = run.script.reveal()
        if RESTART in text:
            main = text.partition("\nmain() {")[2]
            assert main.index("require_lock") < main.index("change_containers restart")
            assert quote(OWNER.to_json()) in main.partition("run() {")[2]


def test_a_restart_that_is_cut_off_leaves_no_service_stopped(core: ManagedHost) -> None:
    core.manager.restart(("db",))
    (change,) = [run for run in core.transport.runs if RESTART in run.script.reveal()]
    assert "recovery after a cut-off restart" in change.script.reveal()


def test_the_error_of_docker_is_reported(core: ManagedHost) -> None:
    failure = Answer(exit_code=1, stderr="noise\nError: no such mount\n")
    core.transport.answer(failure, containing=RESTART)
    with pytest.raises(DeploymentFailed, match="restart of db on core failed: Error: no such"):
        core.manager.restart(("db",))


def test_an_interrupted_command_sends_no_further_script(core: ManagedHost) -> None:
    core.manager.stopping.set()
    with pytest.raises(Interrupted):
        core.manager.restart(())
    assert not core.changes()


# ----------------------------------------------------------------------- dependency levels


def test_a_service_comes_after_all_its_dependencies() -> None:
    containers = [
        container("backend", depends_on=f"{NEEDS_DB},jaeger:service_started:true"),
        container("db"),
        container("jaeger"),
        container("proxy", depends_on="backend:service_healthy:false"),
    ]
    levels = [[each.service for each in level] for level in dependency_levels(containers)]
    assert levels == [["db", "jaeger"], ["backend"], ["proxy"]]


def test_a_dependency_that_is_not_selected_is_ignored() -> None:
    (level,) = dependency_levels([container("backend", depends_on=NEEDS_DB)])
    assert [each.service for each in level] == ["backend"]


@given(st.dictionaries(st.sampled_from("abcdef"), st.sets(st.sampled_from("abcdefx"))))
def test_each_service_comes_once_whatever_the_dependencies(needs: dict[str, set[str]]) -> None:
    containers = [
        container(name, depends_on=",".join(f"{each}:service_started:true" for each in others))
        for name, others in needs.items()
    ]
    services = [each.service for level in dependency_levels(containers) for each in level]
    assert sorted(services) == sorted(needs)
