"""`ktrdr deploy exec`: run a command in the container of a service."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ktrdr.cli import completion
from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.deploy.operator import signals_as_ctrl_c
from ktrdr.cli.hosts import inventory_option, read_inventory, ssh_program
from ktrdr.cli.render import json_option, write_json
from ktrdr.deployment.deploy.result import SCHEMA
from ktrdr.deployment.execute import attach_command, execute_command
from ktrdr.deployment.homelab.hosts import select_hosts
from ktrdr.deployment.ssh.interface import Stream
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import UsageError


@click.command("exec", epilog=EXIT_CODES, context_settings={"allow_interspersed_args": False})
@click.option("--interactive", "-i", is_flag=True, help="Pass standard input on; implies -t.")
@click.option("--tty", "-t", is_flag=True, help="Use a terminal, as a shell needs it; implies -i.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=3600,
    show_default=True,
    metavar="SECONDS",
    help="Maximum duration of the command, without -it.",
)
@inventory_option
@json_option
@click.argument(
    "words",
    nargs=-1,
    metavar="HOST SERVICE -- COMMAND...",
    shell_complete=completion.complete_exec_words,
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

    HOST is core or a NODE. The exit code is the command's own. If the command cannot be run,
    ktrdr prints a message that begins with "error:" and exits with one of the codes below. In the
    output, secrets of environment variables are hidden by the variables' names. Nothing else is
    hidden, and with -it nothing at all.
    """
    known = read_inventory(inventory)
    count = 2 if words[:1] == ("workers",) else 1
    service, command = "".join(words[count : count + 1]), words[count + 1 :]
    if command[:1] == ("--",):
        command = command[1:]
    if not command:
        raise UsageError(
            "exec needs a host, a service and a command",
            hint="For example: ktrdr deploy exec core backend -- ls /mnt/shared",
        )
    host, *others = select_hosts(known, words[:count])
    if others:
        raise UsageError(
            f"exec runs on one host, but {' '.join(words[:count])} names {len(others) + 1}",
            hint="Name the core or one node.",
        )
    program = ssh_program(known)
    if interactive or tty:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UsageError(
                "-it needs a terminal", hint="Omit -it in scripts and where output is redirected."
            )
        command_line = attach_command(host, service, command)
        raise SystemExit(program.attach(host.address, command_line))

    def print_line(stream: Stream, line: str) -> None:
        if not as_json:
            click.echo(line, err=stream == "stderr")

    with signals_as_ctrl_c(), SshTransport(program) as transport:
        result = execute_command(
            host, service, command, transport, timeout_s=timeout, on_line=print_line
        )
    if as_json:
        write_json(
            {
                "schema": SCHEMA,
                "target": host.name,
                "host": host.address,
                "service": service,
                "exit_code": result.exit_code,
                "stdout": result.stdout,
                "stderr": result.stderr,
                "duration_s": round(result.duration_s, 3),
            }
        )
    raise SystemExit(result.exit_code)
