"""A runner that is watched, and how its scripts are told apart."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import Any

from ktrdr.deployment.deploy.host_deployment import Runner
from ktrdr.deployment.hosts.history import Entry, Outcome
from ktrdr.secret import Secret
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.conftest import Host

SECRETS = {
    name: Secret(f"value-of-{name.lower()}")
    for name in (
        *("DB_USER", "DB_PASSWORD", "JWT_SECRET", "GF_ADMIN_PASSWORD"),
        *("WORKER_TOKEN", "DOCKER_AUTH_CONFIG", "DB_PASSWORD_VERIFIER"),
    )
}
# Each script says how it is used.
LOCK, RELEASE, CHECK, FETCH, APPLY, VERIFY, UNDO = (
    f"Usage: {name}.sh"
    for name in ("acquire_lock", "release_lock", "check", "fetch", "apply", "verify", "recover")
)
RECORD = '"event":"ended"'


class Watched:
    """A runner with a transport that answers, and all that it told."""

    def __init__(self, plan: Any, clock: Any, known: Any = (), replan: Any = None) -> None:
        self.transport = RecordingTransport()
        self.events: list[Any] = []
        self.runner = Runner(
            plan,
            SECRETS,
            self.transport,
            self.events.append,
            lambda: known,
            replan,
            clock=clock,
        )
        self.host = Host(plan)

    def ready(self) -> Watched:
        """A host that has nothing yet, and everything once something was applied."""
        self.transport.answer(Answer(stdout=self.host.check_output()), containing=CHECK)
        self.transport.answer(Answer(stdout=self.host.fetch_output()), containing=FETCH)
        self.host.run_all()
        self.transport.answer(Answer(stdout=self.host.verify_output()), containing=VERIFY)
        return self

    def deploy(self) -> Any:
        """All of it; a failure is raised."""
        self.runner.prepare()
        result = self.runner.carry_out()
        if result.error:
            raise result.error
        return result

    @property
    def scripts(self) -> list[str]:
        """What the host was sent, but for what takes the lock and gives it back."""
        texts = [run.script.reveal() for run in self.transport.runs]
        return [text for text in texts if LOCK not in text and RELEASE not in text]

    @property
    def is_unlocked(self) -> bool:
        """Whether the last that the host was sent gave the lock back."""
        return RELEASE in self.transport.runs[-1].script.reveal()

    def ended(self) -> dict[str, Any]:
        """What was recorded last."""
        (script,) = [text for text in self.scripts if RECORD in text][-1:]
        line = next(line for line in script.splitlines() if RECORD in line)
        *_, text = [word for word in shlex.split(line.rstrip("\\")) if RECORD in word]
        found: dict[str, Any] = json.loads(text)
        return found


def earlier(plan: Any, **changes: Any) -> Entry:
    entry: Entry = plan.entry
    return replace(
        entry,
        **{
            "id": "20261101-000000-0001",
            "tag": "sha-0000001",
            "outcome": Outcome.DEPLOYED,
            "duration_s": 9.0,
            "images": {"ghcr.io/ktrdr/ktrdr-backend:sha-0000001": "sha256:old"},
            **changes,
        },
    )
