"""`ktrdr deploy logs`: show the logs of services, merged by time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click

from ktrdr.cli import completion, log_lines
from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.deploy.operator import signals_as_ctrl_c
from ktrdr.cli.hosts import inventory_option, read_inventory, ssh_program
from ktrdr.deployment.homelab.hosts import select_hosts, split_services
from ktrdr.deployment.logs import LogEvent, LogQuery, follow_logs, parse_since, read_logs
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import UsageError

DEFAULT_LINES: Final = 100


@click.command(epilog=EXIT_CODES)
@click.argument("hosts", nargs=-1, shell_complete=completion.complete_hosts)
@click.option(
    "--service",
    "services",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.complete_services,
    help="Only this service. May be repeated.",
)
@click.option("--follow", "-f", is_flag=True, help="Also show new lines, until Ctrl-C.")
@click.option(
    "--since",
    metavar="TIME",
    help="Only lines of the last 10m, 2h or 1d, or since a time (2026-11-24T05:30).",
)
@click.option(
    "--tail",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Only the last N lines of each service.  [default: {DEFAULT_LINES}; all with --since]",
)
@click.option("--grep", metavar="REGEX", help="Only lines that match this regular expression.")
@click.option("--raw", is_flag=True, help="Show lines as the services wrote them.")
@click.option("--json", "as_json", is_flag=True, help="Print each line as a JSON object.")
@inventory_option
def logs(
    hosts: tuple[str, ...],
    services: tuple[str, ...],
    follow: bool,
    since: str | None,
    tail: int | None,
    grep: str | None,
    raw: bool,
    as_json: bool,
    inventory: Path | None,
) -> None:
    """Show the logs of services, merged by time.

    HOSTS are core, a NODE, workers or all, by default all; services may follow, as in
    `core backend`. On a terminal, lines of JSON are shown as level and message. Needs no secrets.
    """
    known = read_inventory(inventory)
    named, more = split_services(known, hosts)
    selected = select_hosts(known, named)
    query = LogQuery(
        services=(*services, *more),
        since=parse_since(since) if since else "",
        lines=tail if tail or since else DEFAULT_LINES,
        pattern=_compile(grep) if grep else None,
    )
    try:
        with signals_as_ctrl_c(), SshTransport(ssh_program(known)) as transport:
            read = follow_logs if follow else read_logs
            events: Iterable[LogEvent] = read(selected, transport, query)
            events = events if follow else list(events)
            lost = log_lines.write_log(events, as_json=as_json, raw=raw)
    except KeyboardInterrupt:
        if not follow:
            raise
        # The usual end of following.
        return
    if lost:
        raise SystemExit(lost[0].error.exit_code)


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as exc:
        raise UsageError(
            f"--grep {pattern!r} is not a regular expression: {exc}",
            hint="Use the syntax of Python's `re`; `--grep 'error|lost'` finds either word.",
        ) from exc
