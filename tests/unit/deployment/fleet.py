"""Three hosts that answer as told, and what a deploy to them needs besides."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy import rollout as module
from ktrdr.deployment.deploy.hooks import Hook, Hooks
from ktrdr.deployment.deploy.options import Manner
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.deploy.result import DeployResult, HostResult
from ktrdr.deployment.deploy.rollout import Surroundings
from ktrdr.deployment.homelab.inventory import HookSettings, Inventory
from ktrdr.deployment.hosts.history import Outcome
from ktrdr.deployment.ssh.interface import RemoteResult
from ktrdr.errors import (
    KtrdrError,
)
from ktrdr.schemas import Worker
from ktrdr.schemas.workers import WorkerStatus, WorkerType
from ktrdr.secret import Scrubber, Secret
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.conftest import NOW, TAG, Host
from tests.unit.deployment.watched import CHECK, FETCH, RELEASE, VERIFY

FIELDS = {
    "db_username": Secret("ada"),
    "db_password": Secret("a long password"),
    "jwt_secret": Secret("j" * 40),
    "grafana_password": Secret("another password"),
    "ghcr_token": Secret("ghp_0123456789"),
}


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


class Drains:
    """What the backend is asked for, and what of it it knows."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.known: list[Sequence[Worker]] = [[]]
        self.error: KtrdrError | None = None

    def drain(self, node: str) -> None:
        if self.error:
            raise self.error
        self.asked.append(f"drain {node}")

    def undrain(self, node: str) -> None:
        self.asked.append(f"undrain {node}")

    def workers(self) -> Sequence[Worker]:
        return self.known.pop(0) if len(self.known) > 1 else self.known[0]


@dataclass
class Fleet:
    """Three hosts, and what a deploy to them does."""

    plans: list[Plan]
    inventory: Inventory
    clock: Clock
    vault: Vault = field(default_factory=Vault)
    transport: Hosts = field(default_factory=Hosts)
    told: list[tuple[str, Any]] = field(default_factory=list)
    losses: list[Sequence[str]] = field(default_factory=list)
    refuses: KtrdrError | None = None
    checkout: Path = Path("/nonexistent")
    workers: list[Worker] = field(default_factory=list)
    drains: Drains = field(default_factory=Drains)
    hosts: dict[str, Host] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.hosts = {plan.site.name: Host(plan) for plan in self.plans}
        for plan in self.plans:
            host = self.hosts[plan.site.name]
            self.say(plan, CHECK, host.check_output())
            self.say(plan, FETCH, host.fetch_output())
            self.say(plan, VERIFY, host.run_all().verify_output())
            self.workers += [worker(plan, service.worker_url) for service in plan.wanted]

    def plan(self, name: str) -> Plan:
        return next(plan for plan in self.plans if plan.site.name == name)

    def say(self, plan: Plan, containing: str, stdout: str, code: int = 0) -> None:
        answer = Answer(code, stdout=stdout)
        self.transport.answer(answer, host=plan.site.host, containing=containing)

    def fail(self, name: str, containing: str, error: KtrdrError) -> None:
        host = self.plan(name).site.host
        self.transport.answer(Answer(error=error), host=host, containing=containing)

    def deploy(self, **manner: Any) -> DeployResult:
        world = Surroundings(
            source=self.vault,
            scrubber=Scrubber(),
            transport=self.transport,
            directory=lambda secret: lambda: self.workers,
            drains=lambda secret: self.drains,
            observe=lambda name: lambda event: self.told.append((name, event)),
            agree=self._agree,
            hooks=self._hooks,
            clock=self.clock,
        )
        return module.deploy(self.plans, self.inventory, world, Manner(**manner))

    def _hooks(self, fields: Mapping[str, Secret]) -> Hooks:
        def tell(hook: Hook, line: str) -> None:
            self.told.append((hook.value, line))

        return Hooks(self.checkout, HookSettings(), os.environ, tell, Scrubber(), fields)

    def _agree(self, losses: Sequence[str]) -> None:
        self.losses.append(losses)
        if self.refuses:
            raise self.refuses

    def order(self, containing: str) -> list[str]:
        """The hosts that were sent such a script, in that order."""
        names = {plan.site.host: plan.site.name for plan in self.plans}
        runs = self.transport.runs
        return [names[run.host] for run in runs if containing in run.script.reveal()]

    def unlocked(self) -> set[str]:
        return set(self.order(RELEASE))


def worker(plan: Plan, url: str | None, operation: str | None = None) -> Worker:
    return Worker(
        worker_id=f"w-{url}",
        worker_type=WorkerType.BACKTESTING,
        endpoint_url=url or "",
        status=WorkerStatus.AVAILABLE,
        current_operation_id=operation,
        capabilities={},
        version=TAG,
        node=plan.site.host,
        registered_at=NOW,
        last_healthy_at=NOW,
        health_check_failures=0,
    )


def by_name(result: DeployResult) -> dict[str, HostResult]:
    return {host.plan.site.name: host for host in result.hosts}


def outcomes(result: DeployResult) -> dict[str, Outcome | None]:
    return {name: host.outcome for name, host in by_name(result).items()}
