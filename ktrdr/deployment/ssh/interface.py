"""What the runner needs of a transport: `ssh` is the real one, `recording` the one for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from ktrdr.errors import KtrdrError
from ktrdr.secret import Secret

Stream = Literal["stdout", "stderr"]
OnLine = Callable[[Stream, str], None]


@dataclass(frozen=True, slots=True)
class RemoteResult:
    """What a remote script left behind, already scrubbed of secrets.

    Attributes:
        exit_code: The script's own exit code; never that of ssh.
        stdout: Its standard output, without the sentinel line.
        stderr: Its standard error.
        duration_s: Seconds from sending the script to its end.
    """

    exit_code: int
    stdout: str
    stderr: str
    duration_s: float


class Grip(Protocol):
    """Something that a shell on a host has taken, and has for as long as it lives."""

    def lost(self) -> KtrdrError | None:
        """What has ended the shell; None while it stands."""
        ...

    @property
    def was_released(self) -> bool:
        """Whether somebody on the host has ended it, rather than broken the connection."""
        ...

    def let_go(self, lines: Secret, *, timeout_s: float) -> None:
        """Runs lines in the shell that give it back.

        Raises:
            HostUnreachable: The connection was lost, and what was taken with it.
        """
        ...


class Transport(Protocol):
    """Runs shell scripts on hosts."""

    def run(
        self,
        host: str,
        script: Secret,
        *,
        timeout_s: float,
        on_line: OnLine | None = None,
    ) -> RemoteResult:
        """Runs a rendered script (see `ktrdr.deployment.scripts.script`) with ``sh`` on ``host``.

        The script travels on standard input and stands in no argument list. It is a Secret because
        rendering put the environment's values into it. A result is returned only for a script that
        ran to its own end or failed by itself (``exit_code`` other than 0).

        Args:
            host: A name as the user's ssh configuration understands it.
            script: The rendered script.
            timeout_s: After this many seconds the remote process is ended.
            on_line: Called for every line of output as it comes, scrubbed.

        Raises:
            Interrupted: Another thread called `interrupt` or `close`.
            HostUnreachable: Name, network, key or host key; each in its own words. Also when the
                connection is lost in mid-script or the time is up.
        """
        ...

    def hold(self, host: str, lines: Secret, *, timeout_s: float) -> tuple[RemoteResult, Grip]:
        """Runs lines in a shell that keeps what they open; other scripts there do not have it.

        Args:
            host: As for `run`.
            lines: The body of a function of ``sh``, which returns its exit code. Only with 0 is
                there anything to let go again.
            timeout_s: After this many seconds they are ended.

        Raises:
            Interrupted: As for `run`.
            HostUnreachable: As for `run`.
        """
        ...

    def connect(self, host: str) -> None:
        """Connects beforehand, so that the first script need not wait for it.

        Raises:
            HostUnreachable: As for `run`.
        """
        ...

    def interrupt(self) -> None:
        """Ends the scripts that other threads run now; later ones may run."""
        ...

    def close(self) -> None:
        """Ends the connections that are kept open."""
        ...
