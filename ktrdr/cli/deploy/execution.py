"""Carries out plans and tells of it: the half that deploys and rollbacks share."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.text import Text

from ktrdr.cli import deploy_summary
from ktrdr.cli.deploy import dependencies as world
from ktrdr.cli.deploy.connections import Way
from ktrdr.cli.deploy.json_lines import failure_as_line, write_line
from ktrdr.cli.deploy.options import Options
from ktrdr.cli.live import DeployDisplay
from ktrdr.cli.render import console
from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy import events
from ktrdr.deployment.deploy import rollout as deployment
from ktrdr.deployment.deploy.events import Event, Observer
from ktrdr.deployment.deploy.hooks import Hooks
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.deploy.result import DeployResult
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.homelab.secret_fields import FIELDS
from ktrdr.deployment.releases.checkout import Checkout
from ktrdr.deployment.secrets.sources import make_source
from ktrdr.secret import Secret


def carry_out(plans: Sequence[Plan], inventory: Inventory, options: Options, way: Way) -> None:
    """Does it; the result goes to standard output, all else to standard error.

    Raises:
        KtrdrError: The gravest of what went wrong, when all of it has been told.
    """
    telling = Telling(options, [plan.site.name for plan in plans])
    if options.verbose > 1:
        for plan in plans:
            deploy_summary.show_plan(console(err=True), plan, whole=False)
    if any(plan.site.target == "workers" for plan in plans):
        world.load_ahead()
    with failure_as_line(options.as_json), telling.display:
        surroundings = telling.surroundings(inventory, way)
        result = deployment.deploy(plans, inventory, surroundings, options.manner)
    telling.report(result)


class Telling:
    """What the operator is told, and asked, while plans are carried out."""

    def __init__(self, options: Options, names: Sequence[str]) -> None:
        self._options = options
        self._err = console(err=True)
        self._writing = threading.Lock()
        self.display = DeployDisplay(self._err, names, verbosity=options.verbose)

    def surroundings(self, inventory: Inventory, way: Way) -> deployment.Surroundings:
        """The real world."""

        def hooks(fields: Mapping[str, Secret]) -> Hooks:
            observe = self._observer("")
            return Hooks(
                root=Checkout.find(Path.cwd()).root,
                settings=inventory.hooks,
                environ=os.environ,
                tell=lambda hook, line: observe(events.HookSaid(hook.value, line)),
                scrubber=way.scrubber,
                secrets=fields,
            )

        return deployment.Surroundings(
            source=make_source(inventory.secrets, FIELDS),
            scrubber=way.scrubber,
            transport=way.transport,
            directory=world.directory(inventory),
            drains=world.drains(inventory),
            observe=self._observer,
            agree=self._agree,
            hooks=hooks,
            clock=Clock(),
        )

    def report(self, result: DeployResult) -> None:
        """Tells the end.

        Raises:
            KtrdrError: The first failure, so that the exit code is its.
        """
        if self._options.as_json:
            write_line(result.to_json())
        else:
            deploy_summary.show_result(console(), result)
        if result.failed:
            raise deploy_summary.failure(result)

    def _observer(self, name: str) -> Observer:
        drawn = self.display.of(name)
        if not self._options.as_json:
            return drawn

        def observe(event: Event) -> None:
            drawn(event)
            if not isinstance(event, events.Output) or self._options.verbose:
                now = datetime.now(UTC).isoformat(timespec="milliseconds")
                with self._writing:
                    write_line({**events.to_json(event), "target": name, "at": now})

        return observe

    def _agree(self, losses: Sequence[str]) -> None:
        if not losses:
            return
        self.display.pause()
        for loss in losses:
            warning = Text.assemble("  ", ("attention: ", "yellow"), loss)
            self._err.print(warning, soft_wrap=True)
        if self._options.yes:
            return
        if not world.somebody_is_there():
            raise world.refuse_unasked(losses)
        world.confirm("Go on?")
