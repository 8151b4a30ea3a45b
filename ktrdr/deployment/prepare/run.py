"""Preparation of one host: questions, preview, and the change itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Final

from ktrdr.deployment.deploy.preflight import parse_facts
from ktrdr.deployment.hosts.actions import HistoryAction, recorded
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.lock import LockOwner, hold_lock
from ktrdr.deployment.prepare.plan import (
    HostRequirements,
    Preparation,
    facts_script,
    make_preparation,
)
from ktrdr.deployment.scripts.script import Script, render_as_root
from ktrdr.deployment.ssh.interface import Stream, Transport
from ktrdr.errors import HostNotReady

_QUERY_TIMEOUT_S: Final = 60.0
# Packages may come over a slow line, and another program may use apt first.
_APPLY_TIMEOUT_S: Final = 1800.0
_HINTS: Final = {
    "sudo": "Log in as root, or let sudo ask this user for no password.",
    "Depends: docker": "Set `prepare.docker_packages: docker` in the inventory.",
    "Release file": "If Docker's repository lacks this distribution, set "
    "`prepare.docker_packages: distribution` in the inventory.",
    "Docker did not start": "Options may not be in daemon.json and on Docker's command line.",
    "No such device": "The kernel has no NFS client: run `modprobe nfs` (on Proxmox, on its host), "
    "and add nfs to /etc/modules there.",
    "cannot be mounted": "Check that the server exports the directory to this host. A privileged "
    "container on Proxmox needs `features: nesting=1,mount=nfs` in its configuration.",
}


def examine(
    requirements: HostRequirements, transport: Transport, *, undo: bool = False
) -> Preparation:
    """Return the plan, with the lines that describe what it would change.

    Args:
        requirements: Requirements on the host.
        transport: Connection to it.
        undo: Whether to undo the firewall rules and the mount instead.

    Raises:
        HostNotReady: The host cannot be prepared; the message names every problem.
        HostUnreachable: The host cannot be reached.
    """
    host = requirements.host
    facts = parse_facts(_run(host, facts_script(requirements), transport))
    preparation = make_preparation(requirements, facts, undo=undo)
    check = Script("scripts/prepare.sh", ("check", *preparation.arguments))
    return preparation._replace(lines=_run(host, check, transport).splitlines())


def apply(
    host: Host,
    preparation: Preparation,
    transport: Transport,
    owner: LockOwner,
    show: Callable[[str], None],
) -> Preparation:
    """Change a host; return the plan with the lines that describe what was changed.

    Args:
        host: The host.
        preparation: The plan.
        transport: Connection to the host.
        owner: Owner that its lock names meanwhile.
        show: Receives each change and note when it begins.

    Raises:
        HostNotReady: Something could not be changed; the message says why.
        Locked: Another command changes the host.
        HostUnreachable: The host cannot be reached.
    """
    script = Script("scripts/prepare.sh", ("apply", *preparation.arguments))
    # A host without a lock has no work directory yet, which the user may not be able to create.
    is_deployed = preparation.is_deployed
    action = HistoryAction(owner.deploy, owner.reason)
    with (
        hold_lock(transport, host, owner, wait_s=0) if is_deployed else nullcontext(),
        recorded(transport, host, action) if is_deployed else nullcontext(),
    ):
        return preparation._replace(lines=_run(host, script, transport, show).splitlines())


def _run(
    host: Host, script: Script, transport: Transport, show: Callable[[str], None] | None = None
) -> str:
    def on_line(stream: Stream, line: str) -> None:
        if show and stream == "stdout" and line.startswith(("*", "!")):
            show(line)

    timeout_s = _APPLY_TIMEOUT_S if show else _QUERY_TIMEOUT_S
    text = render_as_root(script)
    result = transport.run(host.address, text, timeout_s=timeout_s, on_line=on_line)
    if result.exit_code:
        reason = result.reason()
        hint = next((hint for text, hint in _HINTS.items() if text in reason), None)
        raise HostNotReady(
            f"{host.name} on {host.address} is not prepared: {reason}",
            hint=hint or "Solve this on the host, then run the command again.",
        )
    return result.stdout
