"""Preparation of one host: questions, preview, and the change itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ktrdr.deployment.deploy.preflight import parse_facts
from ktrdr.deployment.hosts.lock import LOCK_BUSY, LockOwner, acquire_error
from ktrdr.deployment.prepare import plan
from ktrdr.deployment.prepare.plan import Preparation
from ktrdr.deployment.prepare.requirements import HostRequirements
from ktrdr.deployment.scripts.script import Script, render_as_root
from ktrdr.deployment.ssh.interface import RemoteResult, Stream, Transport
from ktrdr.errors import HostNotReady, KtrdrError

_QUERY_TIMEOUT_S: Final = 60.0
# Packages may come over a slow line, and another program may use apt first.
_APPLY_TIMEOUT_S: Final = 1800.0
_HINTS: Final = {
    "sudo": "Log in as root, or let sudo ask this user for no password.",
    "newer": "Choose Docker's own repository with `--docker-packages docker`.",
    "Release file": "If Docker's repository lacks this distribution, use its own packages with "
    "`--docker-packages distribution`.",
    "No such device": "The kernel has no NFS client: run `modprobe nfs` (on Proxmox, on its host), "
    "and add nfs to /etc/modules there.",
    "cannot be mounted": "Check that the server exports the directory to this host. A privileged "
    "container on Proxmox needs `features: nesting=1,mount=nfs` in its configuration.",
}


@dataclass(frozen=True, slots=True)
class HostPreparer:
    """Preparation of one host.

    Attributes:
        requirements: Requirements on the host.
        transport: Connection to it.
        owner: Owner that its lock names meanwhile.
        undo: Whether to undo the firewall rules and the mount instead.
    """

    requirements: HostRequirements
    transport: Transport
    owner: LockOwner
    undo: bool

    def examine(self) -> Preparation:
        """Return the plan, with the lines that describe what it would change.

        Raises:
            HostNotReady: The host cannot be prepared; the message names every problem.
            HostUnreachable: The host cannot be reached.
        """
        if self.undo:
            preparation = plan.plan_undo(self.requirements)
        else:
            script = plan.facts_script(self.requirements)
            facts = parse_facts(self._run(script, _QUERY_TIMEOUT_S))
            preparation = plan.make_preparation(self.requirements, facts)
        if preparation.arguments:
            output = self._run(self.script(preparation, "check"), _QUERY_TIMEOUT_S)
            preparation = preparation._replace(lines=output.splitlines())
        return preparation

    def apply(self, preparation: Preparation, show: Callable[[str], None]) -> Preparation:
        """Change the host; return the plan with the lines that describe what was changed.

        Args:
            preparation: The plan.
            show: Receives each of these lines when the change begins.

        Raises:
            HostNotReady: Something could not be changed; the message says why.
            Locked: Another command changes the host.
            HostUnreachable: The host cannot be reached.
        """
        output = self._run(self.script(preparation, "apply"), _APPLY_TIMEOUT_S, show)
        return preparation._replace(lines=output.splitlines())

    def script(self, preparation: Preparation, mode: str) -> Script:
        """Build the script that previews (``check``) or makes (``apply``) the changes."""
        lock = ("--lock", self.requirements.host.workdir, self.owner.to_json())
        arguments = (*(lock if mode == "apply" else ()), *preparation.arguments)
        return Script("scripts/prepare.sh", (mode, *arguments))

    def _run(
        self, script: Script, timeout_s: float, show: Callable[[str], None] | None = None
    ) -> str:
        def on_line(stream: Stream, line: str) -> None:
            if show and stream == "stdout":
                show(line)

        address = self.requirements.host.address
        result = self.transport.run(
            address, render_as_root(script), timeout_s=timeout_s, on_line=on_line
        )
        if result.exit_code:
            raise self._error(result)
        return result.stdout

    def _error(self, result: RemoteResult) -> KtrdrError:
        host, reason = self.requirements.host, result.reason()
        if result.exit_code == LOCK_BUSY:
            return acquire_error(host, result)
        hint = next((hint for text, hint in _HINTS.items() if text in reason), None)
        return HostNotReady(
            f"{host.name} on {host.address} is not prepared: {reason}",
            hint=hint or "Solve this on the host, then run the command again.",
        )
