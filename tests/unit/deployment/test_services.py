"""Restarting and stopping: the order, the waiting, and the lock."""

from __future__ import annotations

import json
import shlex

import pytest

from ktrdr.deployment.homelab.hosts import Place
from ktrdr.deployment.hosts.lock import LOST, Held, Owner
from ktrdr.deployment.scripts.script import quote
from ktrdr.deployment.services import Attendant
from ktrdr.errors import DeploymentFailed, Interrupted, Locked, NotFound, UsageError
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.day import BACKEND_IMAGE, CORE, NOW, TAG, B, described, sections

RESTART = "Usage: restart.sh"
OWNER = Owner("x", "ada@laptop", "restart", NOW)
NEEDS_DB = "db:service_healthy:false"
BACKEND_ANSWER = json.dumps({"status": "ok", "version": {"image_tag": TAG}, "database": "ok"})


class Ground:
    """A host that says what the test wants, and somebody who looks after it."""

    def __init__(self, place: Place, clock) -> None:
        self.hosts = RecordingTransport()
        self.lock = Held(self.hosts, place, OWNER)
        self.lock.take()
        self.told: list[str] = []
        self.attendant = Attendant(
            place, self.lock, self.hosts, BACKEND_IMAGE, self.told.append, 30.0, clock=clock
        )

    def has(self, *containers: str, answers: tuple[str, ...] = ()) -> None:
        said = {"clock": [str(int(NOW.timestamp()))], "containers": containers, "answers": answers}
        self.hosts.answer(Answer(stdout=sections(said)), containing="Usage: verify.sh")

    def done(self) -> list[list[str]]:
        """What each script lets Docker do, with the ids of the containers."""
        found = []
        for run in self.hosts.runs:
            text = run.script.reveal()
            for verb in ("restart", "stop"):
                if f"Usage: {verb}.sh" in text:
                    call = text.partition("run() {\n")[2].splitlines()[0]
                    found.append([verb, *(word for word in shlex.split(call) if "id-of" in word)])
        return found


@pytest.fixture
def core(clock) -> Ground:
    ground = Ground(CORE, clock)
    ground.has(
        described("backend", needs=NEEDS_DB),
        described("db", "postgres:17"),
        described("jaeger", "jaeger:2"),
        answers=(f"backend {BACKEND_ANSWER}",),
    )
    return ground


def test_each_service_is_restarted_after_what_it_needs(core: Ground) -> None:
    after = core.attendant.restart(())
    assert core.done() == [["restart", "id-of-db", "id-of-jaeger"], ["restart", "id-of-backend"]]
    assert set(after) == {"backend", "db", "jaeger"}
    assert core.told == ["restart db, jaeger", "restart backend"]


def test_each_service_is_stopped_before_what_it_needs(core: Ground) -> None:
    core.attendant.stop(())
    assert core.done() == [["stop", "id-of-backend"], ["stop", "id-of-db", "id-of-jaeger"]]


def test_only_the_services_that_were_named_are_touched(core: Ground) -> None:
    core.attendant.restart(("jaeger",))
    assert core.done() == [["restart", "id-of-jaeger"]]


def test_a_service_that_is_not_there_is_refused_before_anything_is_done(core: Ground) -> None:
    with pytest.raises(UsageError, match="did you mean db"):
        core.attendant.restart(("jaeger", "bd"))
    assert not core.done()


def test_where_nothing_is_deployed_there_is_nothing_to_restart(core: Ground) -> None:
    core.has()
    with pytest.raises(NotFound, match="nothing is deployed on core"):
        core.attendant.restart(())


def test_a_service_that_is_not_well_in_time_is_named_with_the_way_to_its_log(core: Ground) -> None:
    core.has(described("db", "postgres:17", Health={"Status": "starting"}))
    with pytest.raises(DeploymentFailed) as failed:
        core.attendant.restart(())
    assert failed.value.message == "db on core did not become healthy within 30 s: it is starting"
    assert failed.value.hint == "Its last lines: `ktrdr deploy logs core --service db`."
    assert core.told.count("waiting: db is starting") == 1


def test_what_depends_on_a_service_that_failed_is_left_alone(core: Ground) -> None:
    core.has(
        described("backend", needs=NEEDS_DB),
        described("db", "postgres:17", Status="exited", ExitCode=1),
    )
    with pytest.raises(DeploymentFailed, match=r"db on core .* has ended with exit code 1"):
        core.attendant.restart(())
    assert core.done() == [["restart", "id-of-db"]]


def test_our_own_programs_have_to_say_that_they_are_well(clock) -> None:
    ground = Ground(B, clock)
    worker = {"version": TAG, "registered": False, "registration_error": "refused"}
    ground.has(described("worker-1"), answers=(f"worker-1 {json.dumps(worker)}",))
    with pytest.raises(DeploymentFailed, match="it could not register: refused"):
        ground.attendant.restart(())


def test_nothing_more_is_done_once_the_lock_is_lost(core: Ground) -> None:
    core.hosts.answer(Answer(exit_code=LOST), containing=RESTART)
    with pytest.raises(Locked):
        core.attendant.restart(())
    assert len(core.done()) == 1


def test_every_change_asks_first_whether_the_lock_is_still_ours(core: Ground) -> None:
    core.attendant.restart(())
    for run in core.hosts.runs:
        text = run.script.reveal()
        if RESTART in text:
            main = text.partition("\nmain() {")[2]
            assert main.index("require_lock") < main.index("change_containers restart")
            assert quote(OWNER.note()) in main.partition("run() {")[2]


def test_a_restart_that_is_cut_off_leaves_nothing_stopped(core: Ground) -> None:
    core.attendant.restart(("db",))
    (changed,) = [run for run in core.hosts.runs if RESTART in run.script.reveal()]
    assert "recovery after a cut-off restart" in changed.script.reveal()


def test_what_docker_says_when_it_fails_is_passed_on(core: Ground) -> None:
    failed = Answer(exit_code=1, stderr="noise\nError: no such mount\n")
    core.hosts.answer(failed, containing=RESTART)
    with pytest.raises(DeploymentFailed, match="restart of db on core failed: Error: no such"):
        core.attendant.restart(("db",))


def test_once_everything_is_to_stop_no_further_script_is_sent(core: Ground) -> None:
    core.attendant.stopping.set()
    with pytest.raises(Interrupted):
        core.attendant.restart(())
    assert not core.done()
