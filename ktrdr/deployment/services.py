"""Restart and stop of a host's services, in the order of their dependencies, without secrets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ktrdr.deployment.clock import Clock
from ktrdr.deployment.hosts import containers as docker_output
from ktrdr.deployment.hosts.containers import Container, Snapshot
from ktrdr.deployment.hosts.health import ExpectedService, HealthProblem, find_problems
from ktrdr.deployment.hosts.host import Host, unknown_name_error
from ktrdr.deployment.hosts.images import parse_image_name
from ktrdr.deployment.hosts.lock import LOCK_LOST, HostLock, lock_lost_error
from ktrdr.deployment.hosts.queries import query_docker, workdir_error
from ktrdr.deployment.product import Product
from ktrdr.deployment.scripts.script import Script, render
from ktrdr.deployment.ssh.interface import RemoteResult, Transport
from ktrdr.errors import DeploymentFailed, Interrupted, NotFound

_QUERY_TIMEOUT_S: Final = 60.0
# The database has a grace period of 60 s, and its disk may be slow.
_CHANGE_TIMEOUT_S: Final = 300.0
_POLL_INTERVAL_S: Final = 0.5


@dataclass(slots=True)
class ServiceManager:
    """Changes to the services of one host, under its lock.

    All methods raise `HostUnreachable` if the host cannot be reached, `HostNotReady` if its Docker
    does not answer, and `Interrupted` once `stopping` is set.

    Attributes:
        host: The host.
        lock: The host's lock, which the caller holds.
        product: Knowledge of the deployed software.
        transport: Connection to the host.
        show_progress: Receives one sentence for each event.
        health_timeout_s: Maximum wait for healthy services (s).
        stopping: Set when the operator interrupts the command.
        clock: The time.
    """

    host: Host
    lock: HostLock
    product: Product
    transport: Transport
    show_progress: Callable[[str], None]
    health_timeout_s: float = 0.0
    stopping: threading.Event = field(default_factory=threading.Event)
    clock: Clock = field(default_factory=Clock)

    def restart(self, services: Sequence[str]) -> Snapshot:
        """Restart services, or start stopped ones, and wait until they are healthy.

        A service is restarted when all services that it depends on are healthy.

        Args:
            services: Names of the services; none means all that exist.

        Raises:
            NotFound: Nothing is deployed there.
            UsageError: There is no such service.
            DeploymentFailed: A service did not start, or did not become healthy.
            Locked: The lock was lost.
        """
        before = self.fetch_containers()
        after = before
        for level in dependency_levels(select_containers(self.host, before, services)):
            self._restart(level)
            after = self._wait_until_healthy(level, before)
        return after

    def stop(self, services: Sequence[str]) -> Snapshot:
        """Stop services, each before those that it depends on, until they are restarted.

        Args:
            services: Names of the services; none means all that exist.

        Raises:
            NotFound: Nothing is deployed there.
            UsageError: There is no such service.
            DeploymentFailed: A service did not stop.
            Locked: The lock was lost.
        """
        selected = select_containers(self.host, self.fetch_containers(), services)
        for level in reversed(dependency_levels(selected)):
            self._stop(level)
        return self.fetch_containers()

    def fetch_containers(self) -> Snapshot:
        """Return the containers that exist; refuse those of another work directory."""
        found = docker_output.parse_containers(self._query([]).get("containers", ()))
        if error := workdir_error(self.host, [each.workdir for each in found.values()]):
            raise error
        return found

    def run_locked(self, script: Script, task: str) -> RemoteResult:
        """Run a script that changes something, if the lock is still held.

        Args:
            script: The script, which exits with `LOCK_LOST` if the lock is not held.
            task: Description of the change, such as ``stop of db``.

        Raises:
            DeploymentFailed: The script failed.
            Locked: The lock was lost.
        """
        self._raise_if_stopping()
        self.lock.ensure_held()
        rendered = render(script, {})
        result = self.transport.run(self.host.address, rendered, timeout_s=_CHANGE_TIMEOUT_S)
        if result.exit_code == LOCK_LOST:
            raise lock_lost_error(self.host)
        if result.exit_code:
            raise DeploymentFailed(
                f"{task} on {self.host.name} failed: {result.reason()}",
                hint=f"See `ktrdr deploy status {self.host.name}`, and run the command again.",
            )
        return result

    def _restart(self, level: Sequence[Container]) -> None:
        host, owner = self.host, self.lock.owner
        # If the restart is cut off, the watchdog starts the stopped containers.
        notes = (owner.to_json(), owner.for_recovery().to_json())
        ids = (container.id for container in level)
        script = Script("scripts/restart.sh", (host.workdir, host.project, *notes, *ids))
        self._run_on_level("restart", script, level)

    def _stop(self, level: Sequence[Container]) -> None:
        ids = (container.id for container in level)
        script = Script("scripts/stop.sh", (self.host.workdir, self.lock.owner.to_json(), *ids))
        self._run_on_level("stop", script, level)

    def _run_on_level(self, verb: str, script: Script, level: Sequence[Container]) -> None:
        names = ", ".join(container.service for container in level)
        self.show_progress(f"{verb} {names}")
        self.run_locked(script, f"{verb} of {names}")

    def _wait_until_healthy(self, level: Sequence[Container], before: Snapshot) -> Snapshot:
        restarts = {container.id: container.restarts for container in before.values()}
        began = self.clock.monotonic()
        shown = ""
        while True:
            after, problems = self._check_health(level, restarts)
            if not problems:
                return after
            is_late = self.clock.monotonic() - began >= self.health_timeout_s
            if is_late or any(problem.is_fatal for problem in problems):
                raise _unhealthy_error(self.host, problems, self.health_timeout_s)
            reason = f"{problems[0].service} {problems[0].reason}"
            if reason != shown:
                shown = reason
                self.show_progress(f"waiting: {reason}")
            self.clock.sleep(_POLL_INTERVAL_S)

    def _check_health(
        self, level: Sequence[Container], restarts: Mapping[str, int]
    ) -> tuple[Snapshot, list[HealthProblem]]:
        expected = [self._expected_service(container) for container in level]
        output = self._query([service.name for service in expected if service.reports_version])
        after = docker_output.parse_containers(output.get("containers", ()))
        reports = docker_output.parse_reports(output)
        now = docker_output.parse_clock(output.get("clock", ())) or self.clock.now()
        problems: list[HealthProblem] = []
        for service in expected:
            # A restart keeps the image, and services may run different tags.
            problems += find_problems(
                [service],
                after,
                reports,
                check_report=self.product.check_report,
                tag=parse_image_name(service.image).tag,
                restarts_before=restarts,
                now=now,
            )
        return after, problems

    def _expected_service(self, container: Container) -> ExpectedService:
        is_own = self.product.is_own_image(container.image)
        # The check of a report only distinguishes workers, which have a URL, from other services.
        url = f"http://{self.host.address}" if is_own and self.host.node else None
        return ExpectedService(container.service, container.image, is_own, url)

    def _query(self, reporting: Sequence[str]) -> Mapping[str, list[str]]:
        """Return the clock, the containers, and the health reports of the given services."""
        self._raise_if_stopping()
        health = self.product.script_extensions(self.host).health
        arguments = (self.host.project, *reporting)
        script = Script("scripts/verify.sh", arguments, extensions=(health,))
        return query_docker(self.host, script, self.transport, timeout_s=_QUERY_TIMEOUT_S)

    def _raise_if_stopping(self) -> None:
        if self.stopping.is_set():
            raise Interrupted(f"the command was interrupted on {self.host.name}")


def select_containers(host: Host, containers: Snapshot, services: Sequence[str]) -> list[Container]:
    """Return the containers of the named services, or all.

    Raises:
        NotFound: Nothing is deployed on the host.
        UsageError: There is no such service; the message lists the valid names.
    """
    if not containers:
        raise NotFound(
            f"nothing is deployed on {host.name}",
            hint=f"Deploy it first; see `ktrdr deploy status {host.name}`.",
        )
    for name in services:
        if name not in containers:
            raise unknown_name_error(f"service on {host.name}", name, sorted(containers))
    return [containers[name] for name in (dict.fromkeys(services) or sorted(containers))]


def dependency_levels(containers: Sequence[Container]) -> list[list[Container]]:
    """Group containers so that each depends only on containers of earlier groups.

    Containers that depend on each other in a circle form the last group.
    """
    waiting = list(containers)
    levels: list[list[Container]] = []
    while waiting:
        names = {container.service for container in waiting}
        ready = [each for each in waiting if names.isdisjoint(each.depends_on)] or waiting
        levels.append(ready)
        waiting = [container for container in waiting if container not in ready]
    return levels


def _unhealthy_error(
    host: Host, problems: Sequence[HealthProblem], timeout_s: float
) -> DeploymentFailed:
    fatal = [problem for problem in problems if problem.is_fatal]
    first = (fatal or problems)[0]
    in_time = "" if fatal else f" within {timeout_s:g} s"
    return DeploymentFailed(
        f"{first.service} on {host.name} did not become healthy{in_time}: it {first.reason}",
        hint=f"See its log: `ktrdr deploy logs {host.name} --service {first.service}`.",
    )
