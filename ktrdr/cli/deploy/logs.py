"""`ktrdr deploy logs`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from ktrdr.cli import completion, log_lines
from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.deploy.connections import signals_as_ctrl_c
from ktrdr.cli.hosts import inventory_option, read_inventory, ssh_program
from ktrdr.deployment import logs as deployment
from ktrdr.deployment.homelab.hosts import chosen
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import UsageError

DEFAULT_LINES = 100


@click.command(epilog=EXIT_CODES)
@click.argument("hosts", nargs=-1, shell_complete=completion.complete_hosts)
@click.option(
    "--service",
    "services",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.complete_services,
    help="Only this service; may be repeated.",
)
@click.option("--follow", "-f", is_flag=True, help="Go on with what is written, until Ctrl-C.")
@click.option(
    "--since", metavar="TIME", help="Since a span ago (10m, 2h, 1d) or a time (2026-11-24T05:30)."
)
@click.option(
    "--tail",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"The last N lines of each service; without --since, {DEFAULT_LINES} by default.",
)
@click.option("--grep", metavar="REGEX", help="Only lines that hold this regular expression.")
@click.option("--json", "as_json", is_flag=True, help="Write a JSON object a line.")
@inventory_option
def logs(
    hosts: tuple[str, ...],
    services: tuple[str, ...],
    follow: bool,
    since: str | None,
    tail: int | None,
    grep: str | None,
    as_json: bool,
    inventory: Path | None,
) -> None:
    """Show what services write, merged by time.

    HOSTS are core, workers NODE, workers all or all; by default all. Needs no secrets.
    """
    found = read_inventory(inventory)
    hosts = chosen(found, hosts)
    wanted = deployment.Wanted(
        services=services,
        since=deployment.read_since(since) if since else "",
        lines=tail if tail or since else DEFAULT_LINES,
        pattern=_pattern(grep) if grep else None,
    )
    read = deployment.follow if follow else deployment.read
    try:
        with signals_as_ctrl_c(), SshTransport(ssh_program(found)) as transport:
            events = read(hosts, transport, wanted)
            lost = log_lines.show(events if follow else list(events), as_json=as_json)
    except KeyboardInterrupt:
        if not follow:
            raise
        # The usual end of following.
        return
    if lost:
        raise SystemExit(lost[0].error.exit_code)


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as exc:
        raise UsageError(
            f"--grep {text!r} is not a regular expression: {exc}",
            hint="Write it as Python's `re` takes it; `--grep 'error|lost'` finds either word.",
        ) from exc
