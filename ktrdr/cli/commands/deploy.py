"""`ktrdr deploy`: parses, calls `ktrdr.deployment`, renders."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click

from ktrdr.cli import deploy_summary
from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.hosts import inventory_option, read_inventory, ssh_program
from ktrdr.cli.live import DeployDisplay
from ktrdr.cli.render import console, write_json
from ktrdr.client.backend import Backend
from ktrdr.client.configuration import api_url
from ktrdr.contracts import Worker
from ktrdr.deployment import deploy as deployment
from ktrdr.deployment import plan as plans
from ktrdr.deployment.checkout import Checkout, undecided
from ktrdr.deployment.clock import Clock
from ktrdr.deployment.inventory import HIGHEST_SCALE, Inventory
from ktrdr.deployment.plan import Plan, Request
from ktrdr.deployment.release import checked_tag
from ktrdr.deployment.result import DeployResult, failure_to_json, plan_to_json
from ktrdr.deployment.secrets.choice import source_of
from ktrdr.deployment.transport.ssh import SshTransport
from ktrdr.errors import Interrupted, KtrdrError, UsageError
from ktrdr.secret import Scrubber, Secret
from ktrdr.tokens import Role, mint

_LOOKING_LIFETIME: Final = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Options:
    """What both commands understand."""

    tag: str | None
    profiles: tuple[str, ...]
    dry_run: bool
    skip_validation: bool
    health_timeout: float
    yes: bool
    as_json: bool
    verbose: int
    inventory: Path | None
    settings: tuple[str, ...]


_OPTIONS: Final = (
    click.option(
        "--tag",
        envvar="KTRDR_DEPLOY_TAG",
        show_envvar=True,
        metavar="TAG",
        help="The image to deploy; by default that of the commit that is checked out.",
    ),
    click.option(
        "--profile",
        "profiles",
        multiple=True,
        metavar="PROFILE",
        help="Start the services of this Compose profile, too; may be repeated.",
    ),
    click.option(
        "--dry-run",
        is_flag=True,
        help="Only show the remote scripts; ask neither vault nor hosts.",
    ),
    click.option(
        "--skip-validation", is_flag=True, help="Do not look at the host before changing it."
    ),
    click.option(
        "--health-timeout",
        type=click.FloatRange(min=1),
        default=plans.DEFAULT_HEALTH_TIMEOUT_S,
        show_default=True,
        metavar="SECONDS",
        help="How long the services may take to become healthy.",
    ),
    click.option("--yes", "-y", is_flag=True, help="Do not ask, even where something is lost."),
    click.option("--json", "as_json", is_flag=True, help="Print the result as a JSON document."),
    click.option(
        "--verbose",
        "-v",
        count=True,
        help="Show what Compose says; -vv all that hosts write, and the scripts.",
    ),
    inventory_option,
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a value of the inventory, such as core.host=NAME; may be repeated.",
    ),
)


def _common(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group(epilog=EXIT_CODES)
def deploy() -> None:
    """Deploy the stack to the homelab."""


@deploy.command(epilog=EXIT_CODES)
@click.argument("service")
@_common
def core(service: str, **options: Any) -> None:
    """Deploy SERVICE, or `all` services, of the core stack.

    What is deployed is an image by its tag, together with the configuration of the very commit
    that the tag names. Services that need no change are not touched.
    """
    chosen = Options(**options)
    request = Request(
        target="core",
        service=service,
        profiles=chosen.profiles,
        skip_validation=chosen.skip_validation,
        health_timeout_s=chosen.health_timeout,
    )
    _Command(chosen, request).run()


@deploy.command(epilog=EXIT_CODES)
@click.argument("node")
@click.option(
    "--scale",
    type=click.IntRange(1, HIGHEST_SCALE),
    help="Workers of each type, for this time; by default what the inventory says.",
)
@_common
def workers(node: str, scale: int | None, **options: Any) -> None:
    """Deploy the workers of NODE, as the inventory names it.

    Workers that are replaced save their progress and hand their operation back to the queue.
    """
    chosen = Options(**options)
    request = Request(
        target="workers",
        node=node,
        scale=scale,
        profiles=chosen.profiles,
        skip_validation=chosen.skip_validation,
        health_timeout_s=chosen.health_timeout,
    )
    _Command(chosen, request).run()


class _Command:
    """One call of the command line."""

    def __init__(self, options: Options, request: Request) -> None:
        self._options = options
        self._request = request
        self._out = console()
        self._err = console(err=True)
        self._display = DeployDisplay(self._err, verbosity=options.verbose)

    def run(self) -> None:
        """Does what was asked for; the result goes to standard output, all else to stderr."""
        plan: Plan | None = None
        try:
            inventory, plan = self._plan()
            if self._options.dry_run:
                self._show(plan)
                return
            with _sigterm_as_ctrl_c(), self._display:
                result = deployment.deploy(plan, inventory, self._surroundings(plan, inventory))
        except KtrdrError as error:
            if self._options.as_json:
                write_json(failure_to_json(plan, error))
            raise
        self._report(result)

    def _plan(self) -> tuple[Inventory, Plan]:
        options = self._options
        checkout = Checkout.around(Path.cwd())
        inventory = read_inventory(options.inventory, checkout=checkout, settings=options.settings)
        if options.tag is None:
            self._settle(checkout.head().doubts())
        tag = checked_tag(options.tag) if options.tag else None
        release = checkout.release(self._request.target, tag)
        if release.commit is None:
            self._err.print(
                f"note: {release.tag} names no commit that is known here, so the configuration "
                "is that of the working tree",
                soft_wrap=True,
            )
        return inventory, plans.make(inventory, self._request, release)

    def _settle(self, doubts: Sequence[str]) -> None:
        """Asks whether to deploy the last commit in spite of doubts, where somebody can answer."""
        if not doubts:
            return
        if not (self._options.dry_run or self._options.yes):
            if not _somebody_is_there():
                raise undecided(doubts)
            for doubt in doubts:
                self._err.print(f"[yellow]{doubt}[/]", soft_wrap=True)
            _confirm("Deploy the image of the last commit all the same?")
        else:
            self._err.print(f"note: {'; '.join(doubts)}", soft_wrap=True)

    def _surroundings(self, plan: Plan, inventory: Inventory) -> deployment.Surroundings:

        def transport(scrubber: Scrubber) -> SshTransport:
            return SshTransport(ssh_program(inventory), scrubber=scrubber)

        def directory(secret: Secret) -> Callable[[], Sequence[Worker]]:
            url = api_url(os.environ, default=inventory.api_url)
            return lambda: _registered_workers(url, _looking_token(secret))

        if self._options.verbose > 1:
            deploy_summary.show_plan(self._err, plan, whole=False)
        return deployment.Surroundings(
            source=source_of(inventory.secrets),
            transport=transport,
            directory=directory,
            observe=self._display,
            agree=self._agree,
            clock=Clock(),
        )

    def _agree(self, losses: Sequence[str]) -> None:
        self._display.pause()
        for loss in losses:
            self._err.print(f"  [yellow]attention:[/] {loss}", soft_wrap=True)
        if self._options.yes:
            return
        if not _somebody_is_there():
            raise UsageError(
                f"this deploy needs your word: {'; '.join(losses)}",
                hint="Nothing was changed; say --yes if that is meant.",
            )
        _confirm("Go on?")

    def _show(self, plan: Plan) -> None:
        if self._options.as_json:
            write_json(plan_to_json(plan))
        else:
            deploy_summary.show_plan(self._out, plan, whole=self._options.verbose > 0)

    def _report(self, result: DeployResult) -> None:
        if self._options.as_json:
            write_json(result.to_json())
        else:
            deploy_summary.show_result(self._out, result)


def _somebody_is_there() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _confirm(question: str) -> None:
    try:
        if click.confirm(question, err=True):
            return
    except click.Abort as exc:
        raise _declined() from exc
    raise _declined()


def _declined() -> Interrupted:
    return Interrupted("the deploy was called off, nothing was changed")


def _registered_workers(url: str, token: Secret) -> list[Worker]:
    with Backend(url, token) as backend:
        return backend.workers()


def _looking_token(secret: Secret) -> Secret:
    return mint(
        secret,
        subject="ktrdr deploy",
        role=Role.READER,
        lifetime=_LOOKING_LIFETIME,
        now=datetime.now(UTC),
    )


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Lets SIGTERM end a deploy as orderly as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
