"""A deploy to several hosts: reads the secrets, prepares all hosts, then changes them in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeVar

from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy import events
from ktrdr.deployment.deploy.events import Event
from ktrdr.deployment.deploy.hooks import HookFacts, Hooks
from ktrdr.deployment.deploy.host_deployment import HostDeployment
from ktrdr.deployment.deploy.plan import Plan, make_plan, split_plans
from ktrdr.deployment.deploy.result import DeployResult, HostResult
from ktrdr.deployment.hosts.history import DeployKind, HistoryEntry
from ktrdr.deployment.hosts.host import DeployId
from ktrdr.deployment.hosts.parallel import SIGNAL_INTERVAL_S
from ktrdr.deployment.product import Backend, SecretSource
from ktrdr.deployment.releases.release import Release
from ktrdr.deployment.ssh.interface import Transport
from ktrdr.errors import HostSkipped, Interrupted, KtrdrError, NotStarted
from ktrdr.secret import Scrubber, Secret

_Result = TypeVar("_Result")


class HostConnections(Protocol):
    """Connections to the hosts."""

    @property
    def transport(self) -> CountingTransport:
        """Return what runs scripts on the hosts; its creator closes it."""

    @property
    def scrubber(self) -> Scrubber:
        """Return what removes secrets from all output; it learns them during the deploy."""


class CountingTransport(Transport, Protocol):
    """Transport that counts its connections and scripts."""

    @property
    def connections(self) -> int: ...

    @property
    def scripts(self) -> int: ...


class DeployUi(Protocol):
    """The operator, as far as a deploy talks to them."""

    def observe(self, host_name: str, event: Event) -> None:
        """Show an event of a host; without a name, of this machine."""

    def confirm(self, destructive_effects: Sequence[str]) -> None:
        """Ask whether to go on.

        Raises:
            KtrdrError: The operator declines, or cannot be asked.
        """


@dataclass(frozen=True, slots=True)
class DeployDependencies:
    """Everything outside this package that a deploy uses.

    Attributes:
        vault: Source of the secrets.
        hosts: Connections to the hosts.
        backend: The product's own server.
        ui: The operator.
        hooks: The operator's own programs.
        clock: The time.
    """

    vault: SecretSource
    hosts: HostConnections
    backend: Backend
    ui: DeployUi
    hooks: Hooks
    clock: Clock = field(default_factory=Clock)


def deploy(plans: Sequence[Plan], deps: DeployDependencies) -> DeployResult:
    """Deploy to all hosts of the plans.

    1. Read and check all secrets, before any host changes.
    2. Run the hook ``pre-deploy``, which can refuse the deploy.
    3. Prepare all hosts: lock, check, fetch, compare. If one fails, cancel all; but worker nodes
       that are off are skipped if options or inventory permit it.
    4. Check the database's schema, and ask the operator about destructive effects.
    5. Apply, verify and record: the core first, then the worker nodes, in batches if requested.
       Watch each batch; after a bad one, start no other, and roll back all hosts if requested.
    6. Run the hooks that report the outcome.

    Raises:
        SecretsError: A secret cannot be read or used.
        Interrupted: The operator interrupted the deploy before it began.
        KtrdrError: The operator or a hook refused it.
    """
    began = deps.clock.monotonic()
    with _interrupted_before_start():
        fields = _read_secrets(plans, deps)
        product, now = plans[0].product, deps.clock.now()
        values = [product.secret_values(fields, plan, now=now) for plan in plans]
        deps.hosts.scrubber.learn(*product.secrets_to_scrub(fields, values, plans))
        deps.backend.set_credentials(fields)
        rollout = Rollout(plans, values, deps)
        hooks = replace(deps.hooks, secrets=fields)
        facts = HookFacts.of(plans)
        rollout.record_all(hooks.run_pre_deploy(facts))
    try:
        result = DeployResult(
            id=plans[0].entry.id,
            hosts=rollout.run(),
            duration_s=deps.clock.monotonic() - began,
            connections=deps.hosts.transport.connections,
            scripts=deps.hosts.transport.scripts,
            batches=rollout.batches,
        )
    except KtrdrError as error:
        facts = facts.with_error(error, deps.clock.monotonic() - began)
        raise
    else:
        facts = facts.with_result(result)
        return result
    finally:
        for warning in hooks.run_final(facts) if facts.outcome else ():
            deps.ui.observe("", events.Warned(warning))


@contextmanager
def _interrupted_before_start() -> Iterator[None]:
    """Translate Ctrl-C before any host was changed."""
    try:
        yield
    except KeyboardInterrupt as exc:
        raise Interrupted(
            "the deploy was interrupted before it changed any host", hint="Run the command again."
        ) from exc


def _read_secrets(plans: Sequence[Plan], deps: DeployDependencies) -> Mapping[str, Secret]:
    title, began = "read the secrets", deps.clock.monotonic()
    deps.ui.observe("", events.StepStarted(title))
    fields = plans[0].product.read_secrets(deps.vault, plans)
    took_s = deps.clock.monotonic() - began
    deps.ui.observe("", events.StepFinished(title, took_s, f"{len(fields)} fields"))
    return fields


class Rollout:
    """Deploy to several hosts at the same time."""

    def __init__(
        self,
        plans: Sequence[Plan],
        values: Sequence[Mapping[str, Secret]],
        deps: DeployDependencies,
    ) -> None:
        """Create the deploys to the hosts without starting them.

        Args:
            plans: A plan for each host.
            values: Secrets that the scripts of each plan export.
            deps: Everything outside.
        """
        self._deps = deps
        self._options = plans[0].options
        self._is_atomic = self._options.on_failure == "rollback"
        self.batches: tuple[tuple[str, ...], ...] = ()
        self._product = plans[0].product
        names: dict[tuple[str, str], str] = {}
        self._stopping = threading.Event()
        nodes = tuple(plan.host.node for plan in plans if plan.host.node)
        self._deployments = [
            HostDeployment(
                plan=plan,
                values=exported,
                transport=deps.hosts.transport,
                backend=deps.backend,
                observe=_observe(deps.ui, plan.host.name),
                plan_rollback=self._plan_rollback if self._options.rollback else None,
                stopping=self._stopping,
                later_nodes=nodes,
                clock=deps.clock,
                names=names,
                awaits_verdict=self._is_atomic or self._options.soak_s > 0,
            )
            for plan, exported in zip(plans, values, strict=True)
        ]

    def record_all(self, *notes: str) -> None:
        """Let the histories of all hosts say what the command did besides."""
        for deployment in self._deployments:
            deployment.also += filter(None, notes)

    def run(self) -> tuple[HostResult, ...]:
        """Prepare all hosts, ask once, and change them; return a result for each plan."""
        parallel = max(1, min(self._options.parallel, len(self._deployments)))
        plans = [deployment.plan for deployment in self._deployments]
        with ThreadPoolExecutor(parallel) as pool, self._interruptible(pool):
            errors = self._prepare_all(pool)
            skipped = self._skip_hosts(errors)
            if errors and not skipped:
                prepared = [d for d in self._deployments if d.plan.host.name not in errors]
                self._cancel(pool, prepared)
                return tuple(
                    HostResult(d.plan, None, error=errors[d.plan.host.name])
                    if d.plan.host.name in errors
                    else _not_started(d.plan, errors)
                    for d in self._deployments
                )
            try:
                comparisons = [(d.plan, d.comparison) for d in self._deployments if d.comparison]
                self._product.check_schema(comparisons, self._deps.hosts.transport)
                self._deps.ui.confirm(_list_effects(comparisons))
            except (KtrdrError, KeyboardInterrupt):
                self._cancel(pool, self._deployments)
                raise
            results = skipped | self._apply_all(pool)
        return tuple(results[plan.host.name] for plan in plans)

    @contextmanager
    def _interruptible(self, pool: ThreadPoolExecutor) -> Iterator[None]:
        """Also end all deploys in good order if Ctrl-C arrives while nothing is waited for."""
        try:
            yield
        except KeyboardInterrupt as exc:
            self._stop()
            pool.shutdown()
            for deployment in self._deployments:
                deployment.cancel()
            raise Interrupted("the deploy was interrupted", hint="Run the command again.") from exc

    def _prepare_all(self, pool: ThreadPoolExecutor) -> dict[str, KtrdrError]:
        """Prepare all hosts; return the errors of those that are not ready, by name."""
        prepared = [pool.submit(deployment.prepare) for deployment in self._deployments]
        self._wait(prepared)
        errors = {}
        for deployment, future in zip(self._deployments, prepared, strict=True):
            error = future.exception()
            if isinstance(error, KtrdrError):
                errors[deployment.plan.host.name] = error
            elif error is not None:
                raise error
        return errors

    def _skip_hosts(self, errors: Mapping[str, KtrdrError]) -> dict[str, HostResult]:
        """Leave out the nodes that are off, and return their results by name.

        Leave out none if another host has an error, or if all are off.
        """
        off = [each for each in self._deployments if each.is_off and each.plan.may_be_skipped]
        if not off or len(off) < len(errors) or len(off) == len(self._deployments):
            return {}
        results = {}
        for deployment in off:
            host = deployment.plan.host
            error = HostSkipped(
                f"{host.name} was skipped: {errors[host.name].message}",
                hint="When it is on again, run `ktrdr deploy workers all --behind`.",
            )
            deployment.observe(events.Warned(error.message))
            results[host.name] = HostResult(deployment.plan, None, error=error)
        self._deployments = [
            each for each in self._deployments if each.plan.host.name not in results
        ]
        nodes = tuple(each.plan.host.node for each in self._deployments if each.plan.host.node)
        for deployment in self._deployments:
            deployment.skipped, deployment.later_nodes = tuple(results), nodes
        return results

    def _apply_all(self, pool: ThreadPoolExecutor) -> dict[str, HostResult]:
        results: dict[str, HostResult] = {}
        batches = self._split()
        self.batches = tuple(tuple(each.plan.host.name for each in batch) for batch in batches)
        for number, batch in enumerate(batches, start=1):
            failed = _failed(results)
            if failed or (results and self._stopping.is_set()):
                self._cancel(pool, batch)
                ended = [_not_started(deployment.plan, failed) for deployment in batch]
            else:
                ended = self._apply_batch(pool, number, batch)
            results |= {result.plan.host.name: result for result in ended}
        if self._is_atomic:
            names = "" if self._stopping.is_set() else ", ".join(_failed(results))
            # The worker nodes go back before the core.
            for are_nodes in (True, False):
                calls = [
                    partial(each.confirm, results[each.plan.host.name], names)
                    for each in self._deployments
                    if bool(each.plan.host.node) is are_nodes
                ]
                results |= {result.plan.host.name: result for result in self._run(pool, calls)}
        return results

    def _apply_batch(
        self, pool: ThreadPoolExecutor, number: int, batch: Sequence[HostDeployment]
    ) -> list[HostResult]:
        """Apply the release on the hosts of a batch; then watch those that changed."""
        names, is_watched = self.batches[number - 1], self._options.soak_s > 0
        if is_watched or self._options.batch:
            self._deps.ui.observe("", events.BatchStarted(number, len(self.batches), names))
        ended = self._run(pool, [partial(self._apply_one, deployment) for deployment in batch])
        if is_watched and all(result.is_good for result in ended):
            ended = self._run(pool, map(partial, [each.watch for each in batch], ended))
        if is_watched and not self._is_atomic:
            ended = self._run(pool, map(partial, [each.confirm for each in batch], ended))
        return ended

    def _split(self) -> list[list[HostDeployment]]:
        """Split the hosts into batches; hosts without changes do not wait for others."""
        by_name = {each.plan.host.name: each for each in self._deployments}
        unchanged = [name for name, each in by_name.items() if not each.has_changes]
        if len(unchanged) == len(by_name):
            return [self._deployments]
        split = split_plans([each.plan for each in self._deployments], unchanged)
        return [[by_name[plan.host.name] for plan in batch] for batch in split]

    def _apply_one(self, deployment: HostDeployment) -> HostResult:
        if not (self._options.drain and deployment.plan.host.node and deployment.has_changes):
            return deployment.apply()
        try:
            timeout_s = self._options.drain_timeout
            with self._product.drained(deployment, self._deps.backend, timeout_s):
                return deployment.apply()
        except KtrdrError as error:
            deployment.cancel()
            return HostResult(deployment.plan, None, error=error)

    def _cancel(self, pool: ThreadPoolExecutor, deployments: Sequence[HostDeployment]) -> None:
        self._run(pool, [deployment.cancel for deployment in deployments])

    def _run(
        self, pool: ThreadPoolExecutor, calls: Iterable[Callable[[], _Result]]
    ) -> list[_Result]:
        """Make calls in parallel, wait for all, and return their results."""
        started = [pool.submit(call) for call in calls]
        self._wait(started)
        return [future.result() for future in started]

    def _wait(self, started: Iterable[Future[Any]]) -> None:
        """Wait for all. Ctrl-C ends the running scripts in good order, a second one at once."""
        pending = set(started)
        while pending:
            try:
                _, pending = futures.wait(pending, SIGNAL_INTERVAL_S)
            except KeyboardInterrupt:
                if self._stopping.is_set():
                    self._deps.hosts.transport.close()
                self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        self._deps.hosts.transport.interrupt()

    def _plan_rollback(self, plan: Plan, entry: HistoryEntry, release: Release) -> Plan:
        deploy_id = DeployId(f"{plan.entry.id}-back", plan.entry.deploy.who, self._deps.clock.now())
        return make_plan(
            plan.product,
            plan.host,
            release,
            deploy_id,
            plan.options,
            service=plan.service,
            kind=DeployKind.AUTOMATIC_ROLLBACK,
            redeploy_of=entry,
            rolled_back_from=plan.entry.id,
            lock_owner=plan.lock_owner,
        )


def _observe(ui: DeployUi, host_name: str) -> events.Observer:
    return lambda event: ui.observe(host_name, event)


def _list_effects(comparisons: Sequence[tuple[Plan, Any]]) -> list[str]:
    is_single = len(comparisons) == 1
    return [
        effect if is_single else f"{plan.host.name}: {effect}"
        for plan, comparison in comparisons
        for effect in comparison.destructive_effects
    ]


def _failed(results: Mapping[str, HostResult]) -> list[str]:
    """Return the names of the hosts that failed themselves."""
    errors = {name: result.error for name, result in results.items() if result.error}
    return [name for name, error in errors.items() if not isinstance(error, NotStarted)]


def _not_started(plan: Plan, others: Collection[str]) -> HostResult:
    """Return the result of a host that is left as it is because of others, or of Ctrl-C."""
    if not others:
        text = f"{plan.host.name} was not changed, because the deploy was interrupted"
        return HostResult(plan, None, error=Interrupted(text, hint="Run the command again."))
    error = NotStarted(
        f"{plan.host.name} was not changed, because of a failure on {', '.join(others)}",
        hint="Fix the failed hosts, or deploy only to the other hosts.",
    )
    return HostResult(plan, None, error=error)
