"""Scripts that only read, and the errors of hosts that cannot answer them."""

from __future__ import annotations

from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.scripts import sections
from ktrdr.deployment.scripts.script import Script, render
from ktrdr.deployment.ssh.interface import RemoteResult, Transport
from ktrdr.errors import HostNotReady


def query_docker(
    host: Host, script: Script, transport: Transport, *, timeout_s: float
) -> dict[str, list[str]]:
    """Run a script that asks Docker and changes nothing; return its output by section.

    Raises:
        HostNotReady: Docker there does not answer.
        HostUnreachable: The host cannot be reached.
    """
    result = transport.run(host.address, render(script, {}), timeout_s=timeout_s)
    if result.exit_code:
        raise docker_unavailable(host, result)
    return sections.split(result.stdout)


def docker_unavailable(host: Host, result: RemoteResult) -> HostNotReady:
    """Return the error for a host that can be reached, but whose Docker does not answer."""
    return HostNotReady(
        f"Docker on {host.address} cannot be queried: {result.reason()}",
        hint="Check on the host that Docker runs and that this user may use it: `docker ps`.",
    )
