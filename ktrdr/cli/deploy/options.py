"""Options that the commands of a deploy share."""

from __future__ import annotations

import re
from typing import Any, Final

import click

from ktrdr.cli import completion
from ktrdr.cli.cli import with_options
from ktrdr.cli.hosts import inventory_option
from ktrdr.deployment.deploy.options import (
    DEFAULT_DRAIN_TIMEOUT_S,
    DEFAULT_HEALTH_TIMEOUT_S,
    DEFAULT_PARALLEL,
    DEFAULT_SOAK_S,
)
from ktrdr.deployment.homelab.inventory import MAX_SCALE

tag_option: Final = click.option(
    "--tag",
    envvar="KTRDR_DEPLOY_TAG",
    show_envvar=True,
    metavar="TAG",
    shell_complete=completion.complete_tags,
    help="Image tag to deploy.  [default: that of the checked-out commit]",
)
set_option: Final = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override an inventory value, such as core.host=NAME. May be repeated.",
)
health_timeout_option: Final = click.option(
    "--health-timeout",
    type=click.FloatRange(min=1),
    default=DEFAULT_HEALTH_TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="Maximum wait for healthy services.",
)
lock_wait_option: Final = click.option(
    "--lock-wait",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Maximum wait for another deploy that holds a host's lock.  [default: do not wait]",
)


def _check_batch(_ctx: Any, _parameter: Any, text: str) -> str:
    if not re.fullmatch(r"([1-9]\d{0,4}|([1-9]\d?|100)%)?", text):
        raise click.BadParameter(f"{text!r} is neither a number of nodes nor 1% to 100%.")
    return text


# Of all commands that change several hosts.
batch_options: Final = with_options(
    click.option(
        "--canary",
        type=click.IntRange(min=0),
        default=0,
        metavar="N",
        help="Deploy N worker nodes first, and the others only if these stay healthy.",
    ),
    click.option(
        "--batch",
        default="",
        callback=_check_batch,
        metavar="N|PERCENT%",
        help="Deploy worker nodes in batches of N, or of PERCENT% of all; stop at a bad batch.",
    ),
    click.option(
        "--soak",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        help="Watch each batch for this time before the next.  "
        f"[default: {DEFAULT_SOAK_S:g} with --canary or --batch, else 0]",
    ),
    click.option(
        "--on-failure",
        type=click.Choice(["keep", "rollback"]),
        default="keep",
        show_default=True,
        help="What to do with the hosts that are deployed when another host fails.",
    ),
    click.option(
        "--together",
        "on_failure",
        flag_value="rollback",
        help="Let all hosts run the release, or none: the same as --on-failure rollback.",
    ),
)
# Of all commands that change what a host runs.
change_options: Final = with_options(
    click.option("--skip-validation", is_flag=True, help="Skip the check of the host."),
    health_timeout_option,
    click.option(
        "--rollback/--no-rollback",
        default=True,
        show_default=True,
        help="Roll back automatically if the release fails.",
    ),
    click.option(
        "--confirm-within",
        type=click.FloatRange(min=1),
        metavar="SECONDS",
        help="Time after which a host goes back by itself unless this command has seen it "
        "healthy.  [default: --health-timeout and 60 s]",
    ),
    click.option(
        "--detach",
        "is_detached",
        is_flag=True,
        help="Let the hosts finish by themselves: they keep the release if its services become "
        "healthy, or go back.",
    ),
    lock_wait_option,
    click.option(
        "--drain", is_flag=True, help="Let workers finish their operations before replacing them."
    ),
    click.option(
        "--drain-timeout",
        type=click.FloatRange(min=0),
        default=DEFAULT_DRAIN_TIMEOUT_S,
        show_default=True,
        metavar="SECONDS",
        help="Maximum wait for running operations; then they are checkpointed and requeued.",
    ),
    click.option(
        "--parallel",
        type=click.IntRange(min=1),
        default=DEFAULT_PARALLEL,
        show_default=True,
        metavar="N",
        help="Number of hosts to deploy at the same time.",
    ),
    click.option(
        "--serial",
        is_flag=True,
        help="Deploy worker nodes one by one; stop at the first failure.",
    ),
    click.option("--yes", "-y", is_flag=True, help="Skip confirmations."),
    click.option(
        "--json", "as_json", is_flag=True, help="Print events as JSON lines, the result last."
    ),
    click.option(
        "--verbose",
        "-v",
        count=True,
        help="Show Compose's output; -vv shows all output of hosts, and the scripts.",
    ),
    inventory_option,
    set_option,
)
# Of commands that deploy a new release.
deploy_options: Final = with_options(
    tag_option,
    click.option(
        "--dry-run",
        is_flag=True,
        help="Print the remote scripts only; contact neither vault nor hosts.",
    ),
    change_options,
)
# Of commands that only show what a deploy would do.
query_options: Final = with_options(
    click.argument(
        "hosts",
        nargs=-1,
        metavar="[core|workers NODE|all]",
        shell_complete=completion.complete_hosts,
    ),
    tag_option,
    inventory_option,
    set_option,
    click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
)
profile_option: Final = click.option(
    "--profile",
    "profiles",
    multiple=True,
    metavar="PROFILE",
    help="Also start the services of this Compose profile. May be repeated.",
)
skip_option: Final = click.option(
    "--skip-unreachable",
    is_flag=True,
    help="Go on without worker nodes that are off; the exit code is 11 then.",
)
scale_option: Final = click.option(
    "--scale",
    type=click.IntRange(1, MAX_SCALE),
    help="Workers of each type, for this deploy.  [default: the inventory's numbers]",
)
