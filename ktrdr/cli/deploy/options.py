"""The options that the commands of a deploy share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from ktrdr.cli import completion
from ktrdr.cli.hosts import inventory_option
from ktrdr.deployment.deploy.options import DEFAULT_HEALTH_TIMEOUT_S, DEFAULT_PARALLEL, Manner
from ktrdr.deployment.homelab.inventory import MAX_SCALE

_Command = TypeVar("_Command", bound=Callable[..., None])
_DEFAULT_DRAIN_S: Final = 900.0


@dataclass(frozen=True, slots=True)
class Options:
    """What all commands that change hosts understand."""

    skip_validation: bool
    health_timeout: float
    rollback: bool
    lock_wait: float
    drain: bool
    drain_timeout: float
    parallel: int
    serial: bool
    yes: bool
    as_json: bool
    verbose: int
    inventory: Path | None
    settings: tuple[str, ...]
    tag: str | None = None
    profiles: tuple[str, ...] = ()
    scale: int | None = None
    dry_run: bool = False

    @property
    def manner(self) -> Manner:
        """How hosts are gone about."""
        return Manner(
            parallel=self.parallel,
            serial=self.serial,
            restore=self.rollback,
            lock_wait_s=self.lock_wait,
            drain_s=self.drain_timeout if self.drain else None,
        )


tag_option: Final = click.option(
    "--tag",
    envvar="KTRDR_DEPLOY_TAG",
    show_envvar=True,
    metavar="TAG",
    shell_complete=completion.tags,
    help="The image to deploy; by default that of the commit that is checked out.",
)
set_option: Final = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a value of the inventory, such as core.host=NAME; may be repeated.",
)
health_timeout_option: Final = click.option(
    "--health-timeout",
    type=click.FloatRange(min=1),
    default=DEFAULT_HEALTH_TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="How long services may take to become healthy.",
)
lock_wait_option: Final = click.option(
    "--lock-wait",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="How long to wait for somebody else who works on a host; by default not at all.",
)
_BRINGING: Final = (
    tag_option,
    click.option(
        "--dry-run",
        is_flag=True,
        help="Only show the remote scripts; ask neither vault nor hosts.",
    ),
)
_CHANGING: Final = (
    click.option(
        "--skip-validation", is_flag=True, help="Do not look at the host before changing it."
    ),
    health_timeout_option,
    click.option(
        "--rollback/--no-rollback",
        default=True,
        help="Whether a host goes back to its last good release when this one fails (it does).",
    ),
    lock_wait_option,
    click.option(
        "--drain",
        is_flag=True,
        help="Let workers finish what they are at before they are replaced.",
    ),
    click.option(
        "--drain-timeout",
        type=click.FloatRange(min=0),
        default=_DEFAULT_DRAIN_S,
        show_default=True,
        metavar="SECONDS",
        help="How long; after it their work is saved and handed over.",
    ),
    click.option(
        "--parallel",
        type=click.IntRange(min=1),
        default=DEFAULT_PARALLEL,
        show_default=True,
        metavar="N",
        help="How many hosts at once.",
    ),
    click.option(
        "--serial",
        is_flag=True,
        help="One worker node after the other, up to the first that fails.",
    ),
    click.option("--yes", "-y", is_flag=True, help="Do not ask, even where something is lost."),
    click.option(
        "--json", "as_json", is_flag=True, help="Print what happens as lines of JSON, result last."
    ),
    click.option(
        "--verbose",
        "-v",
        count=True,
        help="Show what Compose says; -vv all that hosts write, and the scripts.",
    ),
    inventory_option,
    set_option,
)
profile_option: Final = click.option(
    "--profile",
    "profiles",
    multiple=True,
    metavar="PROFILE",
    help="Start the services of this Compose profile, too; may be repeated.",
)
scale_option: Final = click.option(
    "--scale",
    type=click.IntRange(1, MAX_SCALE),
    help="Workers of each type, for this time; by default what the inventory says.",
)


def deploying(command: _Command) -> _Command:
    """The options of commands that bring a new release."""
    return _with(command, (*_BRINGING, *_CHANGING))


def changing(command: _Command) -> _Command:
    """The options of commands that change hosts in any way."""
    return _with(command, _CHANGING)


def _with(command: _Command, options: tuple[Callable[[Any], Any], ...]) -> _Command:
    for option in reversed(options):
        command = option(command)
    return command
