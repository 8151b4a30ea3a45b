"""The lock of a host, which one deploy at a time holds while it works there."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from ktrdr.deployment.hosts.history import RECORDS
from ktrdr.deployment.hosts.host import DeployId, Host
from ktrdr.deployment.scripts.script import Script, render
from ktrdr.deployment.ssh.interface import HeldSession, RemoteResult, Transport
from ktrdr.errors import HostNotReady, HostUnreachable, Interrupted, KtrdrError, Locked

# Exit codes of the scripts. Docker, Compose and the shell use none of them.
LOCK_BUSY: Final = 75
LOCK_LOST: Final = 74
NO_FLOCK: Final = 69
# Beginning of the reason in the lock file while a host repairs what its owner has left behind, and
# the maximum duration of that (s).
RECOVERY: Final = "recovery after"
RECOVERY_S: Final = 600
RELEASE_SCRIPT: Final = Script("scripts/release_lock.sh", is_inline=True)

_QUERY_TIMEOUT_S: Final = 20.0
# The script always waits for a recovery.
_ACQUIRE_MARGIN_S: Final = RECOVERY_S + 30.0
# Always wait for a query of the lock, which holds a shared lock for a moment.
_MINIMUM_WAIT_S: Final = 1
# Wait in pieces, because an interruption does not reach a script that is sent right after it.
_WAIT_PIECE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class LockOwner:
    """Owner of a lock, as the lock file names it.

    Attributes:
        deploy: Identity of the deploy, or of other work on the host.
        reason: What the owner does, such as ``deploy of sha-abc1234``.
    """

    deploy: DeployId
    reason: str

    def to_json(self) -> str:
        """Return the line for the lock file."""
        document = {
            "id": self.deploy.id,
            "who": self.deploy.who,
            "reason": self.reason,
            "since": self.deploy.at.astimezone(UTC).isoformat(timespec="seconds"),
        }
        return json.dumps(document, ensure_ascii=False)

    def for_recovery(self) -> LockOwner:
        """Return the owner that the host records while it repairs this owner's work."""
        deploy = DeployId(f"{self.deploy.id}-recovery", self.deploy.who, self.deploy.at)
        return LockOwner(deploy, f"{RECOVERY} a cut-off {self.reason}")

    def __str__(self) -> str:
        return f"{self.deploy.who}, since {self.deploy.at:%Y-%m-%d %H:%M:%S} UTC: {self.reason}"


_UNKNOWN_OWNER: Final = LockOwner(
    DeployId("unknown", "unknown", datetime.min.replace(tzinfo=UTC)), "unknown"
)


def parse_lock_file(line: str) -> LockOwner | None:
    """Parse ``PID JSON`` from a lock file; return None if it is not readable."""
    try:
        document = json.loads(line.partition(" ")[2])
        since = datetime.fromisoformat(document["since"])
        deploy = DeployId(str(document["id"]), str(document["who"]), since)
        return LockOwner(deploy, str(document["reason"]))
    except (ValueError, TypeError, KeyError):
        return None


def parse_lock_state(lines: list[str]) -> LockOwner | None:
    """Parse the output of ``show_lock.sh``; return None if the lock is free."""
    if not lines or lines[0] != "held":
        return None
    return parse_lock_file("".join(lines[1:2])) or _UNKNOWN_OWNER


class HostLock:
    """Lock of one host for one owner.

    Attributes:
        owner: Owner that the lock file names while the lock is held.
    """

    def __init__(self, transport: Transport, host: Host, owner: LockOwner) -> None:
        """Create the lock without acquiring it.

        Args:
            transport: Connection to the host. The lock is released at the latest when it ends.
            host: The host.
            owner: Shown to others who want the lock.
        """
        self.owner = owner
        self._transport = transport
        self._host = host
        self._session: HeldSession | None = None

    def acquire(self, wait_s: float = 0.0, stopping: threading.Event | None = None) -> None:
        """Acquire the lock.

        Args:
            wait_s: Maximum wait for another owner (s).
            stopping: Ends the wait when it is set.

        Raises:
            Interrupted: The wait was ended, or the transport was interrupted.
            Locked: Another owner holds it; the message says who, since when and why.
            HostNotReady: The host cannot lock.
            HostUnreachable: The host cannot be reached.
        """
        deadline = time.monotonic() + wait_s
        while True:
            if stopping and stopping.is_set():
                raise Interrupted(f"the wait for the lock of {self._host.name} was interrupted")
            remaining_s = max(0.0, deadline - time.monotonic())
            piece_s = min(remaining_s, _WAIT_PIECE_S)
            script = acquire_script(self._host.workdir, self.owner.to_json(), wait_s=piece_s)
            result, session = self._transport.acquire(
                self._host.address, render(script, {}), timeout_s=piece_s + _ACQUIRE_MARGIN_S
            )
            if not result.exit_code:
                self._session = session
                return
            if result.exit_code != LOCK_BUSY or remaining_s <= piece_s:
                raise acquire_error(self._host, result)

    def ensure_held(self) -> None:
        """Raise Locked if another operator released the lock, or the error of a lost connection."""
        if self._session is None or self.was_broken:
            raise self.lost_error()
        if error := self._session.end_error():
            raise error

    @property
    def was_broken(self) -> bool:
        """Return whether the lock's shell was ended on the host; False for a lost connection."""
        return self._session is not None and self._session.was_broken

    def lost_error(self) -> KtrdrError:
        """Return why the lock was lost: the host went away, or an operator released the lock.

        A host that dies ends the shell, too, possibly before the connection.
        """
        try:
            fetch_lock_owner(self._transport, self._host)
        except HostUnreachable as error:
            return error
        except KtrdrError:
            pass
        return lock_lost_error(self._host)

    def release(self) -> None:
        """Release the lock, if it is still held and the host can be reached."""
        session, self._session = self._session, None
        # If this fails, the lock ends with the connection.
        with suppress(KtrdrError, KeyboardInterrupt):
            if session is not None:
                session.release(render(RELEASE_SCRIPT, {}), timeout_s=_QUERY_TIMEOUT_S)


def acquire_script(workdir: str, note: str, *, wait_s: float) -> Script:
    """Build the script that acquires a host's lock for the shell of the connection.

    Args:
        workdir: Work directory of the stack; it is created if it does not exist.
        note: Line that names the owner in the lock file, unique to this owner.
        wait_s: Maximum wait for another owner (s).
    """
    seconds = str(max(_MINIMUM_WAIT_S, round(wait_s)))
    return Script("scripts/acquire_lock.sh", (workdir, seconds, note), is_inline=True)


@contextmanager
def hold_lock(
    transport: Transport, host: Host, owner: LockOwner, *, wait_s: float = 0.0
) -> Iterator[HostLock]:
    """Hold the lock of a host within a block; see `HostLock.acquire` for the errors."""
    lock = HostLock(transport, host, owner)
    lock.acquire(wait_s)
    try:
        yield lock
    finally:
        lock.release()


def fetch_lock_owner(transport: Transport, host: Host) -> LockOwner | None:
    """Return the owner of a host's lock, or None if the lock is free.

    Raises:
        HostUnreachable: The host cannot be reached.
    """
    script = render(Script("scripts/show_lock.sh", (host.workdir,)), {})
    result = transport.run(host.address, script, timeout_s=_QUERY_TIMEOUT_S)
    return parse_lock_state(result.stdout.splitlines())


def break_lock(transport: Transport, host: Host, event: str = "") -> LockOwner | None:
    """End the shell that holds a host's lock; return its owner, or None if the lock was free.

    Args:
        transport: Connection to the host.
        host: The host.
        event: Event to append to the history if the lock was held.

    Raises:
        HostNotReady: The lock could not be released.
        HostUnreachable: The host cannot be reached.
    """
    script = render(Script("scripts/break_lock.sh", (host.workdir, event)), {})
    result = transport.run(host.address, script, timeout_s=_QUERY_TIMEOUT_S)
    owner = parse_lock_state(result.stdout.splitlines())
    if result.exit_code:
        raise HostNotReady(
            f"the lock of {host.name} on {host.address} could not be released",
            hint=f"Find the process with `fuser -v {_lock_file(host)}` on the host.",
        )
    return owner


def lock_lost_error(host: Host) -> Locked:
    """Return the error for a lock that was lost while the command ran."""
    return Locked(
        f"the lock of {host.name} on {host.address} was lost while the command ran",
        hint="Another operator released it, the host was restarted, or this machine was suspended: "
        f"see `ktrdr deploy history {host.name}`, and run the command again.",
    )


def acquire_error(host: Host, result: RemoteResult) -> KtrdrError:
    """Return the error for a lock that a script could not acquire."""
    if result.exit_code == LOCK_BUSY:
        owner = parse_lock_file(result.stdout.strip()) or _UNKNOWN_OWNER
        return Locked(
            f"{host.name} on {host.address} is locked by {owner}",
            hint="Wait with --lock-wait SECONDS, or release the lock with `ktrdr deploy lock "
            "release` if its owner's command is no longer running.",
        )
    if result.exit_code == NO_FLOCK:
        return HostNotReady(
            f"{host.address} has no program flock, but the lock needs it",
            hint="Install the package util-linux on the host.",
        )
    return HostNotReady(
        f"{host.address} cannot lock {_lock_file(host)}: {result.reason()}",
        hint="Check that the work directory is writable and its disk is not full.",
    )


def _lock_file(host: Host) -> str:
    return f"{host.workdir}/{RECORDS}/lock"
