"""Scripts that only read, and the errors of hosts that cannot answer them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

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


def workdir_error(host: Host, workdirs: Iterable[str]) -> HostNotReady | None:
    """Return the error for containers that were made from other work directories than the host's.

    That directory has the project's lock, history and releases, whatever the host is called.
    """
    own = PurePosixPath(host.workdir)
    other = next((each for each in workdirs if each and PurePosixPath(each) != own), None)
    if other is None:
        return None
    return HostNotReady(
        f"the containers of {host.project} on {host.address} belong to {other}, which has their "
        f"lock, history and releases, and not to {host.workdir}",
        hint=f"If {host.name} had another name before, set its `workdir` to {other} in the "
        "inventory. Otherwise two inventories name this host: use one of them.",
    )


def docker_unavailable(host: Host, result: RemoteResult) -> HostNotReady:
    """Return the error for a host that can be reached, but whose Docker does not answer."""
    return HostNotReady(
        f"Docker on {host.address} cannot be queried: {result.reason()}",
        hint="Check on the host that Docker runs and that this user may use it: `docker ps`.",
    )
