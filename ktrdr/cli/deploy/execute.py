"""`ktrdr deploy exec`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ktrdr.cli import completion
from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.deploy.connections import signals_as_ctrl_c
from ktrdr.cli.hosts import inventory_option, read_inventory, ssh_program
from ktrdr.cli.render import json_option, write_json
from ktrdr.deployment import execute as deployment
from ktrdr.deployment.deploy.result import SCHEMA
from ktrdr.deployment.homelab.hosts import Place, chosen
from ktrdr.deployment.ssh.interface import RemoteResult, Stream
from ktrdr.deployment.ssh.program import SshProgram
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import UsageError


@click.command("exec", epilog=EXIT_CODES, context_settings={"allow_interspersed_args": False})
@click.option("--interactive", "-i", is_flag=True, help="Pass on what is typed; with -t.")
@click.option("--tty", "-t", is_flag=True, help="With a terminal, as a shell needs it; with -i.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=3600,
    show_default=True,
    metavar="SECONDS",
    help="How long the command may take; without -it.",
)
@inventory_option
@json_option
@click.argument(
    "words", nargs=-1, metavar="HOST SERVICE -- COMMAND...", shell_complete=completion.execution
)
def execute(
    words: tuple[str, ...],
    interactive: bool,
    tty: bool,
    timeout: float,
    inventory: Path | None,
    as_json: bool,
) -> None:
    """Run a command in the container of a service.

    HOST is core or workers NODE. The exit code is the command's own; where it could not be run, a
    sentence that begins with "error:" says so, and the exit code is one of those below. Where
    the command prints its environment, secrets are hidden by the names of their variables; anything
    else is shown as it is, and with -it all of it.
    """
    found = read_inventory(inventory)
    count = 1 if words[:1] == ("core",) else 2
    service, command = "".join(words[count : count + 1]), words[count + 1 :]
    if command[:1] == ("--",):
        command = command[1:]
    if not command:
        raise UsageError(
            "exec needs a host, a service and a command",
            hint="For example: ktrdr deploy exec core backend -- ls /mnt/shared",
        )
    (place,) = chosen(found, words[:count])
    if interactive or tty:
        raise SystemExit(_attach(ssh_program(found), place, service, command))
    result = _run(ssh_program(found), place, service, command, timeout, quiet=as_json)
    if as_json:
        write_json(_document(place, service, result))
    raise SystemExit(result.exit_code)


def _run(
    program: SshProgram,
    place: Place,
    service: str,
    command: tuple[str, ...],
    timeout_s: float,
    *,
    quiet: bool,
) -> RemoteResult:
    def pass_on(stream: Stream, line: str) -> None:
        if not quiet:
            click.echo(line, err=stream == "stderr")

    with signals_as_ctrl_c(), SshTransport(program) as transport:
        return deployment.execute(
            place, service, command, transport, timeout_s=timeout_s, on_line=pass_on
        )


def _attach(program: SshProgram, place: Place, service: str, command: tuple[str, ...]) -> int:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "there is no terminal to work with", hint="Leave out -it where nobody is there."
        )
    return program.attach(place.host, deployment.attach_command(place, service, command))


def _document(place: Place, service: str, result: RemoteResult) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "target": place.name,
        "host": place.host,
        "service": service,
        "exit_code": result.exit_code,
        "stdout": result.stdout,
        "stderr": result.stderr,
        "duration_s": round(result.duration_s, 3),
    }
