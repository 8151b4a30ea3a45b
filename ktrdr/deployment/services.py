"""Restarts and stops what runs on a host, in the order of its dependencies; needs no secret."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ktrdr.deployment import start_order as order
from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy.steps import Wanted, look_at_containers
from ktrdr.deployment.homelab.host_config import unknown
from ktrdr.deployment.homelab.hosts import Place
from ktrdr.deployment.hosts import containers as reading
from ktrdr.deployment.hosts import health
from ktrdr.deployment.hosts.containers import Container, Snapshot
from ktrdr.deployment.hosts.health import Trouble
from ktrdr.deployment.hosts.lock import LOST, RECOVERY, Held, lost
from ktrdr.deployment.scripts import sections
from ktrdr.deployment.scripts.script import Script, render
from ktrdr.deployment.ssh.interface import RemoteResult, Transport
from ktrdr.deployment.status.query import not_asked
from ktrdr.errors import DeploymentFailed, Interrupted, NotFound

_LOOK_TIMEOUT_S: Final = 60.0
# The database has a grace period of 60 s, and its disk may be slow.
_CHANGE_TIMEOUT_S: Final = 300.0
_LOOK_EVERY_S: Final = 0.5


@dataclass(slots=True)
class Attendant:
    """Looks after the services of one host.

    Attributes:
        place: The host.
        lock: Its lock, which is ours.
        transport: The way to it.
        image: The image of our own programs, without a tag.
        tell: Is told what happens, in one sentence each.
        health_timeout_s: How long services may take to become healthy (s).
        stopping: Set when the operator wants everything to stop.
        clock: The time.
    """

    place: Place
    lock: Held
    transport: Transport
    image: str
    tell: Callable[[str], None]
    health_timeout_s: float
    stopping: threading.Event = field(default_factory=threading.Event)
    clock: Clock = field(default_factory=Clock)

    def restart(self, services: Sequence[str]) -> Snapshot:
        """Restarts services, or starts those that were stopped, and waits until they are well.

        Each waits for what it depends on, so that no service starts without.

        Args:
            services: Their names; none means all that are there.

        Raises:
            NotFound: Nothing is deployed there, or no such service.
            DeploymentFailed: A service did not start, or not become healthy.
            Locked: The lock was lost.
            HostNotReady: Docker there cannot be asked.
            HostUnreachable: The host cannot be reached.
        """
        before = self.look()
        after = before
        for level in order.levels(chosen(self.place, before, services)):
            self._restart(level)
            after = self._wait(level, before)
        return after

    def stop(self, services: Sequence[str]) -> Snapshot:
        """Stops services, each before what it depends on; they stay stopped until restarted.

        Args:
            services: Their names; none means all that are there.

        Raises:
            NotFound: Nothing is deployed there, or no such service.
            DeploymentFailed: A service did not stop.
            Locked: The lock was lost.
            HostNotReady: Docker there cannot be asked.
            HostUnreachable: The host cannot be reached.
        """
        for level in reversed(order.levels(chosen(self.place, self.look(), services))):
            self._stop(level)
        return self.look()

    def look(self) -> Snapshot:
        """The containers that are there."""
        return self._there(self._ask([]))

    def change(self, script: Script, what: str) -> RemoteResult:
        """Runs a script that changes something, and that ends with `LOST` if the lock was lost.

        Args:
            script: The script.
            what: What it does, for the message where it fails.
        """
        self.lock.check()
        result = self._run(script, _CHANGE_TIMEOUT_S)
        if result.exit_code == LOST:
            raise lost(self.place)
        if result.exit_code:
            reason = (result.stderr.strip().splitlines() or ["it gave no reason"])[-1]
            raise DeploymentFailed(
                f"{what} on {self.place.name} failed: {reason}",
                hint=f"See `ktrdr deploy status {self.place.name}`, and run the command again.",
            )
        return result

    def _restart(self, level: Sequence[Container]) -> None:
        place, owner = self.place, self.lock.owner
        reason = f"{RECOVERY} a cut-off {owner.reason}"
        recovery = replace(owner, id=f"{owner.id}-recovery", reason=reason)
        ids = [container.id for container in level]
        arguments = (place.workdir, place.project, owner.note(), recovery.note(), *ids)
        self._change("restart", Script("scripts/restart.sh", arguments), level)

    def _stop(self, level: Sequence[Container]) -> None:
        ids = [container.id for container in level]
        arguments = (self.place.workdir, self.lock.owner.note(), *ids)
        self._change("stop", Script("scripts/stop.sh", arguments), level)

    def _change(self, verb: str, script: Script, level: Sequence[Container]) -> None:
        names = ", ".join(container.service for container in level)
        self.tell(f"{verb} {names}")
        self.change(script, f"{verb} of {names}")

    def _wait(self, level: Sequence[Container], before: Snapshot) -> Snapshot:
        restarts = {container.id: container.restarts for container in before.values()}
        began = self.clock.monotonic()
        told = ""
        while True:
            after, troubles = self._judged(level, restarts)
            if not troubles:
                return after
            late = self.clock.monotonic() - began >= self.health_timeout_s
            if late or any(trouble.final for trouble in troubles):
                raise _unwell(self.place, troubles, self.health_timeout_s)
            waits_for = f"{troubles[0].service} {troubles[0].reason}"
            if waits_for != told:
                told = waits_for
                self.tell(f"waiting: {waits_for}")
            self.clock.sleep(_LOOK_EVERY_S)

    def _judged(
        self, level: Sequence[Container], restarts: Mapping[str, int]
    ) -> tuple[Snapshot, list[Trouble]]:
        ours = [each.service for each in level if self.is_ours(each)]
        found = self._ask(ours)
        after = self._there(found)
        answers = reading.read_answers(found)
        now = reading.read_clock(found.get("clock", ())) or self.clock.now()
        troubles: list[Trouble] = []
        for container in level:
            # Each says the version that it was made from, whatever the others are.
            troubles += health.judge(
                [self._wanted(container)],
                after,
                answers,
                tag=container.image.rpartition(":")[2],
                restarts_before=restarts,
                now=now,
            )
        return after, troubles

    def _wanted(self, container: Container) -> Wanted:
        ours = self.is_ours(container)
        url = f"http://{self.place.host}" if ours and self.place.node else None
        return Wanted(container.service, container.image, says_version=ours, worker_url=url)

    def is_ours(self, container: Container) -> bool:
        """Whether it runs one of our own programs, rather than somebody else's."""
        return container.image.rpartition(":")[0] == self.image

    def _ask(self, ours: Sequence[str]) -> Mapping[str, list[str]]:
        result = self._run(look_at_containers(self.place.project, ours), _LOOK_TIMEOUT_S)
        if result.exit_code:
            raise not_asked(self.place, result)
        return sections.split(result.stdout)

    def _there(self, found: Mapping[str, list[str]]) -> Snapshot:
        return reading.read_containers(found.get("containers", ()))

    def _run(self, script: Script, timeout_s: float) -> RemoteResult:
        if self.stopping.is_set():
            raise Interrupted(f"the work on {self.place.name} was interrupted")
        return self.transport.run(self.place.host, render(script, {}), timeout_s=timeout_s)


def chosen(place: Place, there: Snapshot, services: Sequence[str]) -> list[Container]:
    """The containers of the services named, or all.

    Raises:
        NotFound: Nothing is deployed there.
        UsageError: There is no such service; the message names those there are.
    """
    if not there:
        raise NotFound(
            f"nothing is deployed on {place.name}",
            hint=f"`ktrdr deploy status {place.name}` shows what there is.",
        )
    for name in services:
        if name not in there:
            raise unknown(f"service on {place.name}", name, sorted(there))
    return [there[name] for name in (dict.fromkeys(services) or sorted(there))]


def _unwell(place: Place, troubles: Sequence[Trouble], waited_s: float) -> DeploymentFailed:
    final = [trouble for trouble in troubles if trouble.final]
    worst = (final or troubles)[0]
    within = "" if final else f" within {waited_s:g} s"
    return DeploymentFailed(
        f"{worst.service} on {place.name} did not become healthy{within}: it {worst.reason}",
        hint=f"Its last lines: `ktrdr deploy logs {place.name} --service {worst.service}`.",
    )
