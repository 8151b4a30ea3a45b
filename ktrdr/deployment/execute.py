"""Execution of a command in a service's container."""

from __future__ import annotations

from typing import Final

from ktrdr.deployment.hosts.host import Host, unknown_name_error
from ktrdr.deployment.hosts.queries import docker_unavailable
from ktrdr.deployment.scripts.script import Script, render, render_command
from ktrdr.deployment.ssh.interface import OnLine, RemoteResult, Stream, Transport
from ktrdr.errors import UsageError
from ktrdr.secret import redact_assignments

# First line of the output if the service runs. All further output is the command's.
RUNS: Final = "== runs"


def execute_command(
    host: Host,
    service: str,
    command: tuple[str, ...],
    transport: Transport,
    *,
    timeout_s: float,
    on_line: OnLine,
) -> RemoteResult:
    """Run a command in a service's container; return its output and exit code.

    Values after the names of secret variables are redacted, such as in the output of ``env``.

    Args:
        host: The host.
        service: The service.
        command: Words of the command.
        transport: Connection to the host.
        timeout_s: Maximum duration (s).
        on_line: Receives each line of output.

    Raises:
        UsageError: The service does not run there; the message lists those that do.
        HostUnreachable: The host cannot be reached, or the command took too long.
        HostNotReady: Docker there does not answer.
    """
    script = render(Script("scripts/exec.sh", (host.project, service, *command)), {})
    is_running = False

    def forward(stream: Stream, line: str) -> None:
        # Output before the marker belongs to the script, output after it to the command.
        nonlocal is_running
        if is_running:
            on_line(stream, redact_assignments(line, host.further_secrets))
        elif stream == "stdout" and line == RUNS:
            is_running = True

    result = transport.run(host.address, script, timeout_s=timeout_s, on_line=forward)
    if is_running:
        out, err = (
            redact_assignments(text, host.further_secrets)
            for text in (result.stdout.partition("\n")[2], result.stderr)
        )
        return RemoteResult(result.exit_code, out, err, result.duration_s)
    if result.exit_code:
        raise docker_unavailable(host, result)
    running = result.stdout.splitlines()[1:]
    if not running:
        target = host.name if host.node else f"{host.name} all"
        raise UsageError(
            f"no service is running on {host.name}",
            hint=f"Deploy it first: `ktrdr deploy {target}`.",
        )
    raise unknown_name_error("running service", service, running)


def attach_command(host: Host, service: str, command: tuple[str, ...]) -> str:
    """Return the command line with which ssh runs a command in a container, with a terminal."""
    return render_command(Script("scripts/attach.sh", (host.project, service, *command)))
