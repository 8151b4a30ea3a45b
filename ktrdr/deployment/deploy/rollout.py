"""One deploy, from the vault to healthy stacks on all hosts that were named."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy import events
from ktrdr.deployment.deploy import plan as plans_
from ktrdr.deployment.deploy.drain import Drains, drained
from ktrdr.deployment.deploy.events import Observer
from ktrdr.deployment.deploy.gate import WorkerDirectory
from ktrdr.deployment.deploy.hooks import Hooks, concluded, facts_of, failed
from ktrdr.deployment.deploy.host_deployment import Runner
from ktrdr.deployment.deploy.options import Manner
from ktrdr.deployment.deploy.plan import Plan, Stamp
from ktrdr.deployment.deploy.result import DeployResult, HostResult
from ktrdr.deployment.homelab import credentials, schema
from ktrdr.deployment.homelab.hosts import places
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.hosts.history import Entry, Kind
from ktrdr.deployment.releases.release import Release
from ktrdr.deployment.secrets.sources import SecretSource
from ktrdr.deployment.ssh.interface import Transport
from ktrdr.errors import Interrupted, KtrdrError, NotStarted
from ktrdr.secret import Scrubber, Secret

_READING: Final = "read the secrets"
# A system may give a signal to any thread, while the main one, which acts on it, sleeps on.
_HEAR_EVERY_S: Final = 0.2


class CountingTransport(Transport, Protocol):
    """A transport that knows how much it was used."""

    @property
    def connections(self) -> int:
        """How many connections were opened."""
        ...

    @property
    def scripts(self) -> int:
        """How many scripts were sent."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a deploy needs of the world outside; the CLI passes the real things in.

    Attributes:
        source: The vault.
        scrubber: Cleans all that comes back from hosts and hooks; it learns the secrets.
        transport: The way to the hosts; whoever made it closes it.
        directory: Makes the question for the backend's workers, given JWT_SECRET to sign it with.
        drains: Makes the way to drain nodes, given the same.
        observe: Makes what is told all that happens, by a host's name; empty for this machine.
        agree: Is given what could be lost; raises where that is not wanted.
        hooks: Makes the operator's own programs callable, given the vault's fields.
        clock: The time.
    """

    source: SecretSource
    scrubber: Scrubber
    transport: CountingTransport
    directory: Callable[[Secret], WorkerDirectory]
    drains: Callable[[Secret], Drains]
    observe: Callable[[str], Observer]
    agree: Callable[[Sequence[str]], None]
    hooks: Callable[[Mapping[str, Secret]], Hooks]
    clock: Clock


def deploy(
    plans: Sequence[Plan], inventory: Inventory, world: Surroundings, manner: Manner
) -> DeployResult:
    """Reads the secrets, all of them before any host is touched, and carries out the plans.

    All hosts are locked, checked and compared before any is changed. Then comes the core, and the
    worker nodes after it.

    Raises:
        SecretsError: The vault does not give them, or one of them cannot be used.
        Interrupted: Nothing has begun yet.
    """
    began = world.clock.monotonic()
    with _untouched():
        fields = _read_secrets(plans, world)
        now = world.clock.now()
        values = [credentials.values(fields, inventory, plan, now=now) for plan in plans]
        world.scrubber.learn(*credentials.hidden(fields, values, plans))
        signing = fields["jwt_secret"]
        rollout = Rollout(
            world=world,
            manner=manner,
            inventory=inventory,
            drains=world.drains(signing),
            nodes=tuple(plan.site.node for plan in plans if plan.site.node),
        )
        directory = world.directory(signing)
        runners = [
            rollout.runner(plan, found, directory)
            for plan, found in zip(plans, values, strict=True)
        ]

    def roll_out() -> DeployResult:
        hosts = rollout.run(runners)
        return DeployResult(
            id=plans[0].entry.id,
            hosts=hosts,
            duration_s=world.clock.monotonic() - began,
            connections=world.transport.connections,
            scripts=world.transport.scripts,
        )

    return _between_hooks(roll_out, world.hooks(fields), plans, world)


def _between_hooks(
    roll_out: Callable[[], DeployResult], hooks: Hooks, plans: Sequence[Plan], world: Surroundings
) -> DeployResult:
    """Asks the operator's own program whether to go on, and tells others what has come of it."""
    began, facts = world.clock.monotonic(), facts_of(plans)
    with _untouched():
        hooks.ask(facts)
    try:
        result = roll_out()
    except KtrdrError as error:
        facts = failed(facts, error, world.clock.monotonic() - began)
        raise
    else:
        facts = concluded(facts, result)
        return result
    finally:
        for complaint in hooks.conclude(facts) if facts.outcome else ():
            world.observe("")(events.Warned(complaint))


@contextmanager
def _untouched() -> Iterator[None]:
    """Calls Ctrl-C what it is where nothing has begun yet, at whatever moment it comes."""
    try:
        yield
    except KeyboardInterrupt as exc:
        raise Interrupted(
            "the deploy was interrupted before it touched any host", hint="Run it again."
        ) from exc


def _read_secrets(plans: Sequence[Plan], world: Surroundings) -> Mapping[str, Secret]:
    observe, began = world.observe(""), world.clock.monotonic()
    observe(events.StepStarted(_READING))
    fields = credentials.fetch(world.source, plans)
    took = world.clock.monotonic() - began
    observe(events.StepFinished(_READING, took, f"{len(fields)} fields"))
    return fields


@dataclass(slots=True)
class Rollout:
    """Several hosts at once.

    Attributes:
        world: Everything outside, the way to them included.
        manner: How they are gone about.
        inventory: What is where.
        drains: The way to drain nodes.
        nodes: The worker nodes among them.
        stopping: Set when the operator wants everything to stop.
    """

    world: Surroundings
    manner: Manner
    inventory: Inventory
    drains: Drains
    nodes: tuple[str, ...] = ()
    stopping: threading.Event = field(default_factory=threading.Event)

    def runner(
        self, plan: Plan, values: Mapping[str, Secret], directory: WorkerDirectory
    ) -> Runner:
        """What carries out one of the plans."""
        return Runner(
            plan=plan,
            values=values,
            transport=self.world.transport,
            observe=self.world.observe(plan.site.name),
            directory=directory,
            replan=self._replan if self.manner.restore else None,
            lock_wait_s=self.manner.lock_wait_s,
            stopping=self.stopping,
            following=self.nodes,
            clock=self.world.clock,
        )

    def run(self, runners: Sequence[Runner]) -> tuple[HostResult, ...]:
        """Prepares all hosts, asks once, and changes them; the results come in the same order."""
        most = max(1, min(self.manner.parallel, len(runners)))
        with ThreadPoolExecutor(most) as pool, self._ended_by_ctrl_c(pool, runners):
            refused = self._prepare(pool, runners)
            if refused:
                return self._not_begun(pool, runners, refused)
            with self._given_back(pool, runners):
                self._check_schema(runners)
                self.world.agree(_losses(runners))
            return self._carry_out(pool, runners)

    def _check_schema(self, runners: Sequence[Runner]) -> None:
        core, *_ = places(self.inventory)
        prepared = [(runner.plan, runner.found) for runner in runners if runner.found]
        schema.check_deploy(core, prepared, self.world.transport)

    @contextmanager
    def _ended_by_ctrl_c(
        self, pool: ThreadPoolExecutor, runners: Sequence[Runner]
    ) -> Iterator[None]:
        """Ends all in good order, too, where Ctrl-C came in a moment when nobody waited."""
        try:
            yield
        except KeyboardInterrupt as exc:
            self._stop()
            pool.shutdown()
            for runner in runners:
                runner.abandon()
            raise Interrupted("the deploy was interrupted", hint="Run it again.") from exc

    def _prepare(
        self, pool: ThreadPoolExecutor, runners: Sequence[Runner]
    ) -> dict[str, KtrdrError]:
        """The errors of those hosts that are not ready, by name."""
        tried = [pool.submit(runner.prepare) for runner in runners]
        self._wait(tried)
        found = {}
        for runner, future in zip(runners, tried, strict=True):
            error = future.exception()
            if isinstance(error, KtrdrError):
                found[runner.plan.site.name] = error
            elif error is not None:
                raise error
        return found

    def _not_begun(
        self,
        pool: ThreadPoolExecutor,
        runners: Sequence[Runner],
        refused: Mapping[str, KtrdrError],
    ) -> tuple[HostResult, ...]:
        self._abandon(pool, [one for one in runners if one.plan.site.name not in refused])
        return tuple(
            HostResult(runner.plan, None, error=refused[runner.plan.site.name])
            if runner.plan.site.name in refused
            else _left_alone(runner.plan, refused)
            for runner in runners
        )

    @contextmanager
    def _given_back(self, pool: ThreadPoolExecutor, runners: Sequence[Runner]) -> Iterator[None]:
        """Unlocks the hosts where the operator does not want to go on."""
        try:
            yield
        except (KtrdrError, KeyboardInterrupt):
            self._abandon(pool, runners)
            raise

    def _carry_out(
        self, pool: ThreadPoolExecutor, runners: Sequence[Runner]
    ) -> tuple[HostResult, ...]:
        results: dict[str, HostResult] = {}
        for wave in self._waves(runners):
            failed = [name for name, result in results.items() if not result.is_good]
            if failed:
                self._abandon(pool, wave)
                left = [_left_alone(runner.plan, failed) for runner in wave]
            else:
                done = [pool.submit(self._carry_out_one, runner) for runner in wave]
                self._wait(done)
                left = [future.result() for future in done]
            results |= {result.plan.site.name: result for result in left}
        return tuple(results[runner.plan.site.name] for runner in runners)

    def _waves(self, runners: Sequence[Runner]) -> Iterator[Sequence[Runner]]:
        """What goes at once: the core by itself, since the workers need it; then they.

        Where nothing is to be changed anywhere, there is nothing to wait for.
        """
        if not any(runner.has_work for runner in runners):
            yield runners
            return
        core = [runner for runner in runners if runner.plan.site.target == "core"]
        nodes = [runner for runner in runners if runner.plan.site.target != "core"]
        if core:
            yield core
        if self.manner.serial:
            yield from ([runner] for runner in nodes)
        elif nodes:
            yield nodes

    def _carry_out_one(self, runner: Runner) -> HostResult:
        patience = self.manner.drain_s
        if patience is None or runner.plan.site.target == "core" or not runner.has_work:
            return runner.carry_out()
        try:
            with drained(self.drains, runner, patience):
                return runner.carry_out()
        except KtrdrError as error:
            runner.abandon()
            return HostResult(runner.plan, None, error=error)

    def _abandon(self, pool: ThreadPoolExecutor, runners: Sequence[Runner]) -> None:
        self._wait([pool.submit(runner.abandon) for runner in runners])

    def _wait(self, begun: Iterable[Future[Any]]) -> None:
        """Waits for all; Ctrl-C ends what runs on hosts in good order, and a second one now."""
        pending = set(begun)
        while pending:
            try:
                _, pending = futures.wait(pending, _HEAR_EVERY_S)
            except KeyboardInterrupt:
                if self.stopping.is_set():
                    self.world.transport.close()
                self._stop()

    def _stop(self) -> None:
        self.stopping.set()
        self.world.transport.interrupt()

    def _replan(self, plan: Plan, entry: Entry, release: Release) -> Plan:
        stamp = Stamp(
            f"{plan.entry.id}-back", plan.entry.who, self.world.clock.now(), owner=plan.owner
        )
        request = replace(
            plan.request, kind=Kind.RESTORE, again=entry, of=plan.entry.id, scale=None
        )
        return plans_.make(self.inventory, request, release, stamp)


def _losses(runners: Sequence[Runner]) -> list[str]:
    alone = len(runners) == 1
    return [
        loss if alone else f"{runner.plan.site.name}: {loss}"
        for runner in runners
        for loss in runner.losses
    ]


def _left_alone(plan: Plan, others: Iterable[str]) -> HostResult:
    error = NotStarted(
        f"{plan.site.name} was left as it was, because of {', '.join(others)}",
        hint="Mend what is the matter there, or name the hosts that are to be deployed without it.",
    )
    return HostResult(plan, None, error=error)
