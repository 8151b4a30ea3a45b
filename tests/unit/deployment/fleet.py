"""Three hosts that answer as told, and what a deploy to them needs besides."""

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
from ktrdr.deployment.homelab.inventory import HookSettings, Inventory
from ktrdr.deployment.hosts.history import DeployOutcome
from ktrdr.deployment.scripts.lock import LET_GO
from ktrdr.deployment.ssh.interface import RemoteResult
from ktrdr.errors import (
    KtrdrError,
)
from ktrdr.schemas import Worker
from ktrdr.schemas.workers import WorkerStatus, WorkerType
from ktrdr.secret import Scrubber, Secret
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.conftest import NOW, TAG, SimulatedHost
from tests.unit.deployment.harness import CHECK, FETCH, VERIFY, SimulatedBackend

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

    transport: Hosts
    scrubber: Scrubber


class Vault:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: BaseException | None = None

    def fetch(self) -> Mapping[str, Secret]:
        self.asked += 1
        if self.error:
            raise self.error
        return FIELDS


class Hosts(RecordingTransport):
    """A transport on which a test can have scripts wait until they are interrupted."""

    def __init__(self) -> None:
        super().__init__()
        self.rung = threading.Event()
        self.on_script: Callable[[str, str], None] = lambda host, script: None

    def run(self, host: str, script: Secret, **more: Any) -> RemoteResult:
        self.on_script(host, script.reveal())
        return super().run(host, script, **more)

    def interrupt(self) -> None:
        self.rung.set()
        super().interrupt()

    def scripts_on(self, host: str, containing: str) -> list[str]:
        texts = [run.script.reveal() for run in self.runs if run.host == host]
        return [text for text in texts if containing in text]


@dataclass
class Fleet:
    """Three hosts, and what a deploy to them does."""

    plans: list[Plan]
    inventory: Inventory
    clock: Clock
    vault: Vault = field(default_factory=Vault)
    transport: Hosts = field(default_factory=Hosts)
    events: list[tuple[str, Any]] = field(default_factory=list)
    confirmed: list[Sequence[str]] = field(default_factory=list)
    declines: KtrdrError | None = None
    checkout: Path = Path("/nonexistent")
    workers: list[Worker] = field(default_factory=list)
    hosts: dict[str, SimulatedHost] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.hosts = {plan.host.name: SimulatedHost(plan) for plan in self.plans}
        for plan in self.plans:
            host = self.hosts[plan.host.name]
            self.say(plan, CHECK, host.check_output())
            self.say(plan, FETCH, host.fetch_output())
            self.say(plan, VERIFY, host.run_all().verify_output())
            self.workers += [worker(plan, service.worker_url) for service in plan.expected]
        self.backend = SimulatedBackend(self.workers)

    def plan(self, name: str) -> Plan:
        return next(plan for plan in self.plans if plan.host.name == name)

    def say(self, plan: Plan, containing: str, stdout: str, code: int = 0) -> None:
        answer = Answer(code, stdout=stdout)
        self.transport.answer(answer, host=plan.host.address, containing=containing)

    def fail(self, name: str, containing: str, error: KtrdrError) -> None:
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
        self.confirmed.append(destructive_effects)
        if self.declines:
            raise self.declines

    def order(self, containing: str) -> list[str]:
        """The hosts that were sent such a script, in that order."""
        names = {plan.host.address: plan.host.name for plan in self.plans}
        runs = self.transport.runs
        return [names[run.host] for run in runs if containing in run.script.reveal()]

    def unlocked(self) -> set[str]:
        return set(self.order(LET_GO))


def worker(plan: Plan, url: str | None, operation: str | None = None) -> Worker:
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


def by_name(result: DeployResult) -> dict[str, HostResult]:
    return {host.plan.host.name: host for host in result.hosts}


def outcomes(result: DeployResult) -> dict[str, DeployOutcome | None]:
    return {name: host.outcome for name, host in by_name(result).items()}
