"""Runs a command in a service's container, and passes on what it writes."""

from __future__ import annotations

from ktrdr.deployment.homelab.host_config import unknown
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.scripts import execute as commands
from ktrdr.deployment.scripts.script import Script, render
from ktrdr.deployment.ssh.interface import OnLine, RemoteResult, Stream, Transport
from ktrdr.deployment.status.query import not_asked
from ktrdr.errors import UsageError
from ktrdr.secret import hide_assigned


def execute(
    host: Host,
    service: str,
    command: tuple[str, ...],
    transport: Transport,
    *,
    timeout_s: float,
    on_line: OnLine,
) -> RemoteResult:
    """Runs the command to its end, whatever that is: its exit code is a part of the result.

    What it prints of its environment is shown without the values of secrets.

    Args:
        host: The host.
        service: The service whose container it runs in.
        command: Its words.
        transport: The way to the host.
        timeout_s: After so long it is ended (s).
        on_line: Called for each line that it writes.

    Raises:
        UsageError: The service does not run there; the message names those that do.
        HostUnreachable: The host cannot be reached, or the time is up.
        HostNotReady: Docker there cannot be asked.
    """
    body = commands.execute(host.project, service, command)
    heard = _Heard(on_line)
    result = transport.run(
        host.address, render(Script(body), {}), timeout_s=timeout_s, on_line=heard
    )
    if heard.runs:
        out = hide_assigned(result.stdout.partition("\n")[2])
        err = hide_assigned(result.stderr)
        return RemoteResult(result.exit_code, out, err, result.duration_s)
    if result.exit_code:
        raise not_asked(host, result)
    raise _not_running(host, service, result.stdout.splitlines()[1:])


class _Heard:
    """Passes on what the command writes, and not what the script does."""

    def __init__(self, on_line: OnLine) -> None:
        self.runs = False
        self._on_line = on_line

    def __call__(self, stream: Stream, line: str) -> None:
        if self.runs:
            self._on_line(stream, hide_assigned(line))
        elif stream == "stdout" and line == commands.RUNS:
            self.runs = True


def _not_running(host: Host, service: str, running: list[str]) -> UsageError:
    if not running:
        return UsageError(
            f"nothing runs on {host.name}",
            hint=f"Deploy it first: `ktrdr deploy {host.name}`.",
        )
    return unknown("running service", service, running)
