"""Harness that runs the deploy to one simulated host."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy import events
from ktrdr.deployment.deploy.host_deployment import HostDeployment, PlanRollback
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.deploy.result import HostResult
from ktrdr.deployment.hosts.history import DeployKind, DeployOutcome, HistoryEntry
from ktrdr.errors import KtrdrError
from ktrdr.schemas import Operation, Worker
from ktrdr.secret import Secret
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.conftest import SimulatedHost

SECRETS = {
    name: Secret(f"value-of-{name.lower()}")
    for name in (
        *("DB_USER", "DB_PASSWORD", "JWT_SECRET", "GF_ADMIN_PASSWORD"),
        *("WORKER_TOKEN", "DOCKER_AUTH_CONFIG", "DB_PASSWORD_VERIFIER"),
    )
}
# Texts by which the scripts of a deploy are told apart: each has a line with its usage.
LOCK, RELEASE, CHECK, FETCH, START, APPLY, VERIFY, GO_BACK, DISCARD = (
    f"Usage: {name}.sh"
    for name in (
        *("acquire_lock", "release_lock", "check", "fetch", "start_container", "start_deploy"),
        *("verify", "go_back", "discard"),
    )
)
RECORD = "Usage: record.sh"
_ENDED = '"event":"ended"'


class SimulatedBackend:
    """Backend that lists given workers, and remembers drains.

    Attributes:
        responses: Lists of workers, returned one after the other; the last one repeatedly.
        error: Raised by each request.
        requests: Drains and undrains.
        ended: Operations that ended, by the id of their worker.
    """

    def __init__(self, *responses: Sequence[Worker]) -> None:
        self.responses = list(responses) or [[]]
        self.error: KtrdrError | None = None
        self.requests: list[str] = []
        self.ended: dict[str, list[Operation]] = {}

    def set_credentials(self, fields: Any) -> None:
        assert fields["jwt_secret"]

    def workers(self) -> Sequence[Worker]:
        if self.error:
            raise self.error
        return self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]

    def operations(self, worker_id: str) -> Sequence[Operation]:
        return self.ended.get(worker_id, [])

    def drain(self, node: str) -> None:
        if self.error:
            raise self.error
        self.requests.append(f"drain {node}")

    def undrain(self, node: str) -> None:
        if self.error:
            raise self.error
        self.requests.append(f"undrain {node}")


class DeploymentHarness:
    """Deploy to one simulated host.

    Attributes:
        transport: Connection to the host.
        backend: The backend.
        events: All events of the deploy.
        deployment: The deploy.
        host: Outputs of the host.
    """

    def __init__(
        self,
        plan: Plan,
        clock: Clock,
        *,
        transport: RecordingTransport | None = None,
        backend: SimulatedBackend | None = None,
        plan_rollback: PlanRollback | None = None,
    ) -> None:
        self.transport = transport or RecordingTransport()
        self.backend = backend or SimulatedBackend()
        self.events: list[Any] = []
        self.deployment = HostDeployment(
            plan,
            SECRETS,
            self.transport,
            self.backend,
            self.events.append,
            plan_rollback=plan_rollback,
            clock=clock,
        )
        self.host = SimulatedHost(plan)

    def ready(self) -> Self:
        """Answer as the host does at first, and once the release was applied with all services."""
        self.transport.answer(Answer(stdout=self.host.check_output()), containing=CHECK)
        self.transport.answer(Answer(stdout=self.host.fetch_output()), containing=FETCH)
        self.host.run_all()
        self.transport.answer(Answer(stdout=self.host.verify_output()), containing=VERIFY)
        return self

    def deploy(self) -> HostResult:
        """Prepare and apply; raise the error of a failure."""
        self.deployment.prepare()
        result = self.deployment.apply()
        if result.error:
            raise result.error
        return result

    @property
    def scripts(self) -> list[str]:
        """Return the scripts that the host received, without those of the lock."""
        texts = [run.script.reveal() for run in self.transport.runs]
        return [text for text in texts if LOCK not in text and RELEASE not in text]

    def scripts_with(self, text: str) -> list[str]:
        """Return the scripts that contain a text."""
        return [script for script in self.scripts if text in script]

    @property
    def warnings(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, events.Warned)]

    @property
    def is_unlocked(self) -> bool:
        """Return whether the last script released the lock."""
        return RELEASE in self.transport.runs[-1].script.reveal()

    def ended_event(self) -> dict[str, Any]:
        """Return the last event ``ended`` that was recorded on the host."""
        return recorded_event(self.scripts_with(RECORD)[-1])


def recorded_event(script: str) -> dict[str, Any]:
    """Return the event ``ended`` that a script records."""
    line = next(line for line in script.splitlines() if _ENDED in line)
    *_, text = [word for word in shlex.split(line.rstrip("\\")) if _ENDED in word]
    event: dict[str, Any] = json.loads(text)
    return event


def rollback_answer(plan: Plan, outcome: DeployOutcome, stderr: str = "") -> Answer:
    """Return the answer of a host that has gone back from a deploy, and recorded it."""
    back = earlier_entry(plan, id=f"{plan.entry.id}-back", outcome=outcome)
    entry = replace(
        back, kind=DeployKind.AUTOMATIC_ROLLBACK, rolled_back_from=plan.entry.id, commit=None
    )
    text = f"== history\n{entry.begun_event()}\n{entry.ended_event()}\n"
    return Answer(stdout=text, stderr=stderr)


def earlier_entry(plan: Plan, **changes: Any) -> HistoryEntry:
    """Return the history entry of an earlier good deploy to the plan's host."""
    values = {
        "tag": "sha-0000001",
        "outcome": DeployOutcome.DEPLOYED,
        "duration_s": 9.0,
        "images": {"ghcr.io/ktrdr/ktrdr-backend:sha-0000001": "sha256:old"},
        **changes,
    }
    deploy_id = str(values.pop("id", "20261101-000000-0001"))
    deploy = replace(plan.entry.deploy, id=deploy_id)
    return replace(plan.entry, deploy=deploy, **values)
