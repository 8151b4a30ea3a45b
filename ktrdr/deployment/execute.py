"""Runs a command in a service's container, and passes on what it writes."""

from __future__ import annotations

from typing import Final

from ktrdr.deployment.homelab.host_config import unknown
from ktrdr.deployment.homelab.hosts import Place
from ktrdr.deployment.scripts.script import Script, render, render_command
from ktrdr.deployment.ssh.interface import OnLine, RemoteResult, Stream, Transport
from ktrdr.deployment.status.query import not_asked
from ktrdr.errors import UsageError
from ktrdr.secret import hide_assigned

# The first line of output; after it, all that comes is the command's.
RUNS: Final = "== runs"


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
    script = render(Script("scripts/exec.sh", (place.project, service, *command)), {})
    heard = _Heard(on_line)
    result = transport.run(place.host, script, timeout_s=timeout_s, on_line=heard)
    if heard.runs:
        out = hide_assigned(result.stdout.partition("\n")[2])
        err = hide_assigned(result.stderr)
        return RemoteResult(result.exit_code, out, err, result.duration_s)
    if result.exit_code:
        raise not_asked(place, result)
    raise _not_running(place, service, result.stdout.splitlines()[1:])


def attach_command(place: Place, service: str, command: tuple[str, ...]) -> str:
    """Return the command line that runs the command with a terminal, for ssh to run."""
    return render_command(Script("scripts/attach.sh", (place.project, service, *command)))


class _Heard:
    """Passes on what the command writes, and not what the script does."""

    def __init__(self, on_line: OnLine) -> None:
        self.runs = False
        self._on_line = on_line

    def __call__(self, stream: Stream, line: str) -> None:
        if self.runs:
            self._on_line(stream, hide_assigned(line))
        elif stream == "stdout" and line == RUNS:
            self.runs = True


def _not_running(place: Place, service: str, running: list[str]) -> UsageError:
    if not running:
        return UsageError(
            f"nothing runs on {place.name}",
            hint=f"Deploy it first: `ktrdr deploy {place.name}`.",
        )
    return unknown("running service", service, running)
