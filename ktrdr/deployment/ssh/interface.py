"""Interface of a transport: `ssh.transport` is the real one, tests have one that records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from ktrdr.errors import KtrdrError, last_line
from ktrdr.secret import Secret

Stream = Literal["stdout", "stderr"]
OnLine = Callable[[Stream, str], None]


@dataclass(frozen=True, slots=True)
class RemoteResult:
    """Result of a remote script, scrubbed of secrets.

    Attributes:
        exit_code: Exit code of the script itself, never of ssh.
        stdout: Standard output, without the sentinel line.
        stderr: Standard error.
        duration_s: Seconds from sending the script to its end.
    """

    exit_code: int
    stdout: str
    stderr: str
    duration_s: float

    def reason(self) -> str:
        """Return the last line of standard error, where a program says why it failed."""
        return last_line(self.stderr)


class HeldSession(Protocol):
    """Resource held by a remote shell until it is released or that shell exits."""

    def end_error(self) -> KtrdrError | None:
        """Return the error that says why the shell ended, or None while it is alive."""
        ...

    @property
    def was_broken(self) -> bool:
        """Return whether the shell was ended on its host while the connection was good."""
        ...

    def release(self, script: Secret, *, timeout_s: float) -> None:
        """Run a script that releases the resource in that shell.

        Raises:
            HostUnreachable: The connection was lost, and the resource with it.
        """
        ...


class Transport(Protocol):
    """Runner of shell scripts on hosts."""

    def run(
        self,
        host: str,
        script: Secret,
        *,
        timeout_s: float,
        on_line: OnLine | None = None,
    ) -> RemoteResult:
        """Run a rendered script (see `ktrdr.deployment.scripts.script`) with ``sh`` on ``host``.

        The script travels on standard input, never in an argument list. It is a `Secret`, because
        it contains the values of secret variables. A result is returned only for a script that ran
        to its end, or failed by itself with an ``exit_code`` other than 0.

        Args:
            host: Name that the user's ssh configuration can resolve.
            script: The rendered script.
            timeout_s: The remote process is ended after this time (s).
            on_line: Called for each line of output when it arrives, scrubbed.

        Raises:
            Interrupted: Another thread called `interrupt` or `close`.
            HostUnreachable: The host cannot be reached; the message says why. Or the connection was
                lost, or the time limit exceeded, while the script ran.
        """
        ...

    def acquire(
        self, host: str, script: Secret, *, timeout_s: float
    ) -> tuple[RemoteResult, HeldSession]:
        """Run a script in a shell that keeps its descriptors open, hidden from other scripts.

        Args:
            host: As for `run`.
            script: Body of a function of ``sh``, which returns its exit code. The resource is held
                only if the code is 0.
            timeout_s: The script is ended after this time (s).

        Raises:
            Interrupted: As for `run`.
            HostUnreachable: As for `run`.
        """
        ...

    def connect(self, host: str) -> None:
        """Connect before the first script.

        Raises:
            HostUnreachable: As for `run`.
        """
        ...

    def interrupt(self) -> None:
        """End the scripts that other threads run now. Later ones may run."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...
