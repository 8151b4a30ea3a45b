"""Planning and running of deploys; loaded while the hosts are connected to."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from rich.text import Text

from ktrdr.cli import deploy_summary
from ktrdr.cli.deploy.operator import (
    confirm,
    is_interactive,
    new_deploy_id,
)
from ktrdr.cli.deploy_display import DeployDisplay
from ktrdr.cli.hosts import HostConnections
from ktrdr.cli.render import console, errors_as_json_lines, write_json_line, write_note
from ktrdr.deployment.deploy import events
from ktrdr.deployment.deploy.events import Event
from ktrdr.deployment.deploy.hooks import Hook, Hooks
from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.deploy.plan import Plan, make_plan, split_plans
from ktrdr.deployment.deploy.result import DeployResult, plans_to_json
from ktrdr.deployment.deploy.rollout import DeployDependencies, deploy
from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.homelab.secret_source import make_source
from ktrdr.deployment.hosts.history_queries import find_behind
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.releases.checkout import Checkout, Head, ambiguous_image_error
from ktrdr.deployment.releases.release import Release, validate_tag
from ktrdr.errors import NotFound
from ktrdr.secret import Secret
from ktrdr.tokens import Role, create_token

if TYPE_CHECKING:
    from ktrdr.client.backend import BackendClient
    from ktrdr.schemas import Operation, Worker

# Longer than the longest deploy.
_TOKEN_LIFETIME: Final = timedelta(hours=2)
_MAX_OPERATIONS: Final = 200
_BACKEND_CLIENT: Final = "ktrdr.client.backend"

_Result = TypeVar("_Result")


def plan_and_run(
    hosts: Sequence[Host],
    service: str,
    options: DeployOptions,
    checkout: Checkout,
    inventory: Inventory,
    connections: HostConnections,
) -> None:
    """Plan a deploy to hosts, and run it or print its scripts.

    Args:
        hosts: The hosts.
        service: Service to deploy, or ``all``.
        options: Options of the command.
        checkout: Source of the configuration.
        inventory: The inventory.
        connections: Connections to the hosts.

    Raises:
        KtrdrError: The first error, after all errors were reported.
    """
    with errors_as_json_lines(options.as_json):
        if options.behind:
            newest, hosts = find_behind(
                hosts, Homelab(inventory).hosts, options.tag, connections.transport
            )
            options = replace(options, tag=newest)
            if not hosts:
                result = DeployResult(new_deploy_id().id, (), 0.0, connections=0, scripts=0)
                TerminalUi(options, ()).show_result(result)
                return
        if options.tag is None:
            _confirm_checkout(options, checkout.head())
        tag = validate_tag(options.tag) if options.tag else None
        releases: dict[str, Release] = {}
        for host in hosts:
            if host.stack not in releases:
                releases[host.stack] = checkout.load_release(host.stack, tag)
        release = next(iter(releases.values()))
        if release.note:
            write_note(f"note: {release.note}")
        deploy_id, product = new_deploy_id(), Homelab(inventory)
        is_alone = all(host.node for host in hosts)
        plans = [
            make_plan(
                product,
                host,
                releases[host.stack],
                deploy_id,
                options,
                service=service,
                is_alone=is_alone,
            )
            for host in hosts
        ]
    if not options.dry_run:
        run_plans(plans, inventory, connections)
    elif options.as_json:
        write_json_line(plans_to_json(plans))
    else:
        _show_plans(plans, whole=options.verbose > 0)


def _show_plans(plans: Sequence[Plan], *, whole: bool) -> None:
    batches = split_plans(plans)
    for number, batch in enumerate(batches, start=1):
        if len(batches) > 1:
            names = ", ".join(plan.host.name for plan in batch)
            write_note(f"batch {number} of {len(batches)}: {names}")
        for plan in batch:
            deploy_summary.show_plan(console(), plan, whole=whole)


def run_plans(plans: Sequence[Plan], inventory: Inventory, connections: HostConnections) -> None:
    """Run plans; print the result to standard output, everything else to standard error.

    Raises:
        KtrdrError: The first error, after all errors were reported.
    """
    options = plans[0].options
    if options.scale is not None:
        write_note(
            f"note: --scale {options.scale} lasts until the next deploy without it; set `scale` in "
            "the inventory to keep it"
        )
    ui = TerminalUi(options, [plan.host.name for plan in plans])
    if options.verbose > 1:
        for plan in plans:
            deploy_summary.show_plan(console(err=True), plan, whole=False)
    if any(service.worker_url for plan in plans for service in plan.expected):
        # Loading the backend's client takes a while, and the deploy needs it late.
        threading.Thread(
            target=importlib.import_module, args=(_BACKEND_CLIENT,), daemon=True
        ).start()
    with errors_as_json_lines(options.as_json), ui.display:
        hooks = Hooks(
            root=Checkout.find(Path.cwd()).root,
            settings=inventory.hooks,
            environ=os.environ,
            on_line=ui.show_hook_output,
            scrubber=connections.scrubber,
        )
        deps = DeployDependencies(
            vault=make_source(inventory.secrets),
            hosts=connections,
            backend=DeployBackend(inventory),
            ui=ui,
            hooks=hooks,
        )
        result = deploy(plans, deps)
    ui.show_result(result)


def _confirm_checkout(options: DeployOptions, head: Head) -> None:
    """Ask whether to deploy the last commit although the checkout differs from it."""
    if note := head.note():
        write_note(f"note: {note}")
    warnings = head.warnings()
    if not warnings:
        return
    if options.dry_run or options.yes:
        write_note(f"note: {'; '.join(warnings)}")
        return
    if not is_interactive():
        raise ambiguous_image_error(warnings)
    for warning in warnings:
        write_note(warning)
    confirm("Deploy the image of the last commit anyway?", warnings)


class TerminalUi:
    """Terminal or JSON lines; implements `ktrdr.deployment.deploy.rollout.DeployUi`."""

    def __init__(self, options: DeployOptions, host_names: Sequence[str]) -> None:
        self._options = options
        self._err = console(err=True)
        self._write_lock = threading.Lock()
        self.display = DeployDisplay(self._err, host_names, verbosity=options.verbose)

    def observe(self, host_name: str, event: Event) -> None:
        """Show an event, and print it as JSON if requested."""
        self.display.show(host_name, event)
        if not self._options.as_json:
            return
        if not isinstance(event, events.Output) or self._options.verbose:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            with self._write_lock:
                write_json_line({**events.to_json(event), "target": host_name, "at": now})

    def show_hook_output(self, hook: Hook, line: str) -> None:
        """Show a line of a hook's output."""
        self.observe("", events.HookOutput(hook.value, line))

    def confirm(self, destructive_effects: Sequence[str]) -> None:
        """Ask whether to accept destructive effects, unless ``--yes`` accepts them."""
        if not destructive_effects:
            return
        self.display.pause()
        for effect in destructive_effects:
            line = Text.assemble("  ", ("attention: ", "yellow"), effect)
            self._err.print(line, soft_wrap=True)
        if not self._options.yes:
            confirm("Continue?", destructive_effects)

    def show_result(self, result: DeployResult) -> None:
        """Print the result.

        Raises:
            KtrdrError: The first failure, which determines the exit code.
        """
        if self._options.as_json:
            write_json_line(result.to_json())
        else:
            deploy_summary.show_result(console(), result)
        if result.failed:
            raise deploy_summary.failure(result)


class SingleFlight(Generic[_Result]):
    """Function whose concurrent callers share one call.

    A caller that arrives during a call shares the next one, so no result is older than the call
    that returns it. Fifty hosts that need the backend's workers do not make it list them fifty
    times.
    """

    def __init__(self, function: Callable[[], _Result]) -> None:
        """Wrap a function.

        Args:
            function: The function; its errors are raised in all callers that share the call.
        """
        self._function = function
        self._call_lock = threading.Lock()
        # Guards the result of the next call, if a caller waits for one.
        self._next_lock = threading.Lock()
        self._next: Future[_Result] | None = None

    def __call__(self) -> _Result:
        """Return the function's result."""
        with self._next_lock:
            is_first = self._next is None
            result = self._next = self._next or Future()
        if is_first:
            with self._call_lock:
                with self._next_lock:
                    self._next = None
                try:
                    result.set_result(self._function())
                except BaseException as error:  # noqa: BLE001  # `result()` raises it, here as well
                    result.set_exception(error)
        return result.result()


class DeployBackend:
    """The backend over HTTP; implements `ktrdr.deployment.product.Backend`."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._signing_key = Secret("")
        # Many hosts ask at the same time.
        self._workers = SingleFlight(self._fetch_workers)

    def set_credentials(self, fields: Mapping[str, Secret]) -> None:
        """Keep the key that signs this deploy's tokens."""
        self._signing_key = fields["jwt_secret"]

    def workers(self) -> Sequence[Worker]:
        """Return all registered workers."""
        return self._workers()

    def operations(self, worker_id: str) -> Sequence[Operation]:
        """Return the newest operations that ran last on a worker."""
        with self._connect(Role.READER) as backend:
            page = backend.list_operations(worker_id=worker_id, parts=True, limit=_MAX_OPERATIONS)
        return page.operations

    def drain(self, node: str) -> None:
        """Give a node no new operations; running ones finish."""
        from ktrdr.schemas import DrainMode

        with self._connect(Role.OPERATOR) as backend:
            backend.drain(node, DrainMode.FINISH)

    def undrain(self, node: str) -> None:
        """Give a node new operations again."""
        with self._connect(Role.OPERATOR) as backend:
            try:
                backend.undrain(node)
            except NotFound:
                return

    def _fetch_workers(self) -> Sequence[Worker]:
        with self._connect(Role.READER) as backend:
            return backend.list_workers()

    def _connect(self, role: Role) -> BackendClient:
        # Takes a quarter of the start-up time and is needed late, so `run_plans` loads it in the
        # background.
        from ktrdr.client.backend import BackendClient
        from ktrdr.client.configuration import read_api_url

        token = create_token(
            self._signing_key,
            subject="ktrdr deploy",
            role=role,
            lifetime=_TOKEN_LIFETIME,
            now=datetime.now(UTC),
        )
        return BackendClient(read_api_url(os.environ, default=self._inventory.api_url), token)
