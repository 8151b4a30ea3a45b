"""Harness that runs the deploy to one simulated host, and tells its scripts apart."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ktrdr.deployment.deploy.host_deployment import HostDeployment
from ktrdr.deployment.hosts.history import DeployOutcome, HistoryEntry
from ktrdr.deployment.hosts.host import DeployId
from ktrdr.deployment.scripts.lock import LET_GO
from ktrdr.errors import KtrdrError
from ktrdr.schemas import Worker
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
UNDO = "main() {\nset -eu\nresting="
LOCK, CHECK, FETCH, APPLY, VERIFY, RECORD = (
    "flock -w",
    "fact clock",
    "config --hash",
    "up --detach",
    "set -eu\necho '== clock'",
    '"event":"ended"',
)


class SimulatedBackend:
    """Backend that lists given workers, and remembers drains.

    Attributes:
        responses: Lists of workers, returned one after the other; the last one repeatedly.
        error: Raised by each request.
        requests: Drains and undrains.
    """

    def __init__(self, *responses: Sequence[Worker]) -> None:
        self.responses = list(responses) or [[]]
        self.error: KtrdrError | None = None
        self.requests: list[str] = []

    def authenticate(self, fields: Any) -> None:
        assert fields["jwt_secret"]

    def workers(self) -> Sequence[Worker]:
        if self.error:
            raise self.error
        return self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]

    def drain(self, node: str) -> None:
        if self.error:
            raise self.error
        self.requests.append(f"drain {node}")

    def undrain(self, node: str) -> None:
        if self.error:
            raise self.error
        self.requests.append(f"undrain {node}")


class DeploymentHarness:
    """Deploy to one host with a transport that answers, and all its events."""

    def __init__(
        self,
        plan: Any,
        clock: Any,
        backend: SimulatedBackend | None = None,
        plan_rollback: Any = None,
    ) -> None:
        self.transport = RecordingTransport()
        self.backend = backend or SimulatedBackend()
        self.events: list[Any] = []
        self.deployment = HostDeployment(
            plan,
            SECRETS,
            self.transport,
            self.backend,
            self.events.append,
            plan_rollback,
            clock=clock,
        )
        self.host = SimulatedHost(plan)

    def ready(self) -> DeploymentHarness:
        """Answer as a host that has nothing yet, and everything once something was applied."""
        self.transport.answer(Answer(stdout=self.host.check_output()), containing=CHECK)
        self.transport.answer(Answer(stdout=self.host.fetch_output()), containing=FETCH)
        self.host.run_all()
        self.transport.answer(Answer(stdout=self.host.verify_output()), containing=VERIFY)
        return self

    def deploy(self) -> Any:
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
        return [text for text in texts if LOCK not in text and text != LET_GO]

    @property
    def is_unlocked(self) -> bool:
        """Return whether the last script released the lock."""
        return self.transport.runs[-1].script.reveal() == LET_GO

    def ended(self) -> dict[str, Any]:
        """Return the last recorded end of a deploy."""
        (script,) = [text for text in self.scripts if RECORD in text][-1:]
        line = next(line for line in script.splitlines() if RECORD in line)
        *_, text = [word for word in shlex.split(line) if RECORD in word]
        event: dict[str, Any] = json.loads(text)
        return event


def earlier(plan: Any, **changes: Any) -> HistoryEntry:
    """Return an earlier good deploy of the plan's host."""
    entry: HistoryEntry = plan.entry
    values = {
        "tag": "sha-0000001",
        "outcome": DeployOutcome.DEPLOYED,
        "duration_s": 9.0,
        "images": {"ghcr.io/ktrdr/ktrdr-backend:sha-0000001": "sha256:old"},
        **changes,
    }
    deploy_id = str(values.pop("id", "20261101-000000-0001"))
    deploy = DeployId(deploy_id, entry.deploy.who, entry.deploy.at)
    return replace(entry, deploy=deploy, **values)
