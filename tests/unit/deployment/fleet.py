"""Three simulated hosts, and the dependencies of a deploy to them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy.events import Event
from ktrdr.deployment.deploy.hooks import Hooks
from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.deploy.result import DeployResult, HostResult
from ktrdr.deployment.deploy.rollout import DeployDependencies, deploy
from ktrdr.deployment.homelab.inventory import HookSettings
from ktrdr.deployment.hosts.history import DeployOutcome
from ktrdr.deployment.ssh.interface import RemoteResult
from ktrdr.errors import KtrdrError
from ktrdr.schemas import Worker
from ktrdr.schemas.workers import WorkerStatus, WorkerType
from ktrdr.secret import Scrubber, Secret
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.conftest import NOW, TAG, SimulatedHost
from tests.unit.deployment.harness import CHECK, FETCH, RELEASE, VERIFY, SimulatedBackend

FIELDS = {
    "db_username": Secret("ada"),
    "db_password": Secret("a long password"),
    "jwt_secret": Secret("j" * 40),
    "grafana_password": Secret("another password"),
    "ghcr_token": Secret("ghp_0123456789"),
}


@dataclass(frozen=True)
class Connections:
    """Connections to the simulated hosts."""

    transport: InterruptibleTransport
    scrubber: Scrubber


class Vault:
    """Source of the secrets that counts how often they are fetched.

    Attributes:
        fetches: Number of calls.
        error: Raised by each call.
    """

    def __init__(self) -> None:
        self.fetches = 0
        self.error: BaseException | None = None

    def fetch(self) -> Mapping[str, Secret]:
        self.fetches += 1
        if self.error:
            raise self.error
        return FIELDS


class InterruptibleTransport(RecordingTransport):
    """Transport on which a test can let scripts wait until they are interrupted.

    Attributes:
        interrupted: Set by the first interruption.
        on_script: Called with host and script before each script runs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.interrupted = threading.Event()
        self.on_script: Callable[[str, str], None] = lambda host, script: None

    def run(self, host: str, script: Secret, **arguments: Any) -> RemoteResult:
        self.on_script(host, script.reveal())
        return super().run(host, script, **arguments)

    def interrupt(self) -> None:
        self.interrupted.set()
        super().interrupt()

    def scripts_on(self, host: str, text: str) -> list[str]:
        """Return the scripts that a host received and that contain a text."""
        scripts = [run.script.reveal() for run in self.runs if run.host == host]
        return [script for script in scripts if text in script]


@dataclass
class Fleet:
    """Three simulated hosts, and a deploy to them.

    Attributes:
        plans: A plan for each host.
        clock: The time.
        vault: Source of the secrets.
        transport: Connection to the hosts.
        events: Events with the name of their host; empty for this machine.
        confirmations: Destructive effects that the operator was asked to confirm.
        refusal: Raised when the operator is asked.
        checkout: Checkout that holds the hooks.
        hosts: Outputs of the hosts, by name.
        backend: The backend, at which all workers of the plans are registered.
    """

    plans: list[Plan]
    clock: Clock
    vault: Vault = field(default_factory=Vault)
    transport: InterruptibleTransport = field(default_factory=InterruptibleTransport)
    events: list[tuple[str, Any]] = field(default_factory=list)
    confirmations: list[Sequence[str]] = field(default_factory=list)
    refusal: KtrdrError | None = None
    checkout: Path = Path("/nonexistent")
    hosts: dict[str, SimulatedHost] = field(init=False)
    backend: SimulatedBackend = field(init=False)

    def __post_init__(self) -> None:
        self.hosts = {plan.host.name: SimulatedHost(plan) for plan in self.plans}
        workers = []
        for plan in self.plans:
            host = self.hosts[plan.host.name]
            self.respond(plan, CHECK, host.check_output())
            self.respond(plan, FETCH, host.fetch_output())
            self.respond(plan, VERIFY, host.run_all().verify_output())
            workers += [registered_worker(plan, service.worker_url) for service in plan.expected]
        self.backend = SimulatedBackend(workers)

    def plan(self, name: str) -> Plan:
        return next(plan for plan in self.plans if plan.host.name == name)

    def respond(self, plan: Plan, containing: str, stdout: str) -> None:
        """Answer with an output when the plan's host receives a script that contains a text."""
        answer = Answer(stdout=stdout)
        self.transport.answer(answer, host=plan.host.address, containing=containing)

    def fail(self, name: str, containing: str, error: KtrdrError) -> None:
        """Raise an error when a host receives a script that contains a text."""
        host = self.plan(name).host.address
        self.transport.answer(Answer(error=error), host=host, containing=containing)

    def deploy(self, **options: Any) -> DeployResult:
        plans = [replace(plan, options=DeployOptions(**options)) for plan in self.plans]
        hooks = Hooks(
            root=self.checkout,
            settings=HookSettings(),
            environ=os.environ,
            on_line=lambda hook, line: self.events.append((hook.value, line)),
        )
        dependencies = DeployDependencies(
            vault=self.vault,
            hosts=Connections(self.transport, Scrubber()),
            backend=self.backend,
            ui=self,
            hooks=hooks,
            clock=self.clock,
        )
        return deploy(plans, dependencies)

    def observe(self, host_name: str, event: Event) -> None:
        self.events.append((host_name, event))

    def confirm(self, destructive_effects: Sequence[str]) -> None:
        self.confirmations.append(destructive_effects)
        if self.refusal:
            raise self.refusal

    def receivers_of(self, containing: str) -> list[str]:
        """Return the hosts that received a script that contains a text, in that order."""
        names = {plan.host.address: plan.host.name for plan in self.plans}
        runs = self.transport.runs
        return [names[run.host] for run in runs if containing in run.script.reveal()]

    def unlocked_hosts(self) -> set[str]:
        return set(self.receivers_of(RELEASE))


def registered_worker(plan: Plan, url: str | None, operation: str | None = None) -> Worker:
    """Return a worker on the plan's host as the backend lists it."""
    return Worker(
        worker_id=f"w-{url}",
        worker_type=WorkerType.BACKTESTING,
        endpoint_url=url or "",
        status=WorkerStatus.AVAILABLE,
        current_operation_id=operation,
        capabilities={},
        version=TAG,
        node=plan.host.address,
        registered_at=NOW,
        last_healthy_at=NOW,
        health_check_failures=0,
    )


def results_by_name(result: DeployResult) -> dict[str, HostResult]:
    return {host.plan.host.name: host for host in result.hosts}


def outcomes(result: DeployResult) -> dict[str, DeployOutcome | None]:
    return {name: host.outcome for name, host in results_by_name(result).items()}
