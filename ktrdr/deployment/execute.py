"""Runs a command in a service's container, and passes on what it writes."""

from __future__ import annotations

from ktrdr.deployment.homelab.host_config import unknown
from ktrdr.deployment.homelab.hosts import Place
from ktrdr.deployment.scripts import execute as commands
from ktrdr.deployment.scripts.script import Script, render
from ktrdr.deployment.ssh.interface import OnLine, RemoteResult, Stream, Transport
from ktrdr.deployment.status.query import not_asked
from ktrdr.errors import UsageError
from ktrdr.secret import redact_assignments


def execute(
    place: Place,
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
        place: The host.
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
    body = commands.execute(place.project, service, command)
    heard = _Heard(on_line)
    result = transport.run(place.host, render(Script(body), {}), timeout_s=timeout_s, on_line=heard)
    if heard.runs:
        out = redact_assignments(result.stdout.partition("\n")[2])
        err = redact_assignments(result.stderr)
        return RemoteResult(result.exit_code, out, err, result.duration_s)
    if result.exit_code:
        raise not_asked(place, result)
    raise _not_running(place, service, result.stdout.splitlines()[1:])


class _Heard:
    """Passes on what the command writes, and not what the script does."""

    def __init__(self, on_line: OnLine) -> None:
        self.runs = False
        self._on_line = on_line

    def __call__(self, stream: Stream, line: str) -> None:
        if self.runs:
            self._on_line(stream, redact_assignments(line))
        elif stream == "stdout" and line == commands.RUNS:
            self.runs = True


def _not_running(place: Place, service: str, running: list[str]) -> UsageError:
    if not running:
        return UsageError(
            f"nothing runs on {place.name}",
            hint=f"Deploy it first: `ktrdr deploy {place.name}`.",
        )
    return unknown("running service", service, running)
