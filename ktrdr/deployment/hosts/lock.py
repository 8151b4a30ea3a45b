"""One at a time: the lock of a host, held for as long as this process works on it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from ktrdr.deployment.homelab.hosts import Place
from ktrdr.deployment.hosts.history import RECORDS
from ktrdr.deployment.scripts.script import Script, render
from ktrdr.deployment.ssh.interface import Grip, RemoteResult, Transport
from ktrdr.errors import HostNotReady, Interrupted, KtrdrError, Locked

# Exit codes of the scripts; Docker, Compose and the shell use none of them.
BUSY: Final = 75
LOST: Final = 74
NO_FLOCK: Final = 69
# How the reason begins that the lock has while services are started again after a cut-off, and how
# long that may take (s).
RECOVERY: Final = "recovery after"
RECOVERY_S: Final = 180

_LOOK_TIMEOUT_S: Final = 20.0
# A recovery is waited for in any case.
_ANSWER_S: Final = RECOVERY_S + 30.0
# Whoever looks takes the lock, shared, for a moment: those who come then wait at least so long.
_LEAST_WAIT_S: Final = 1
_PIECE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Owner:
    """Who has a lock.

    Attributes:
        id: Unique to this owner and moment, such as a release's id.
        who: The person and their machine.
        reason: What they do.
        since: Since when, by their clock.
    """

    id: str
    who: str
    reason: str
    since: datetime

    def note(self) -> str:
        """One line that says all of it."""
        found = {
            "id": self.id,
            "who": self.who,
            "reason": self.reason,
            "since": self.since.astimezone(UTC).isoformat(timespec="seconds"),
        }
        return json.dumps(found, ensure_ascii=False)

    def __str__(self) -> str:
        return f"{self.who}, since {self.since:%Y-%m-%d %H:%M:%S} UTC: {self.reason}"


def read_note(line: str) -> Owner | None:
    """The owner that ``PID NOTE`` names, or None if it cannot be read."""
    try:
        found = json.loads(line.partition(" ")[2])
        since = datetime.fromisoformat(found["since"])
        return Owner(str(found["id"]), str(found["who"]), str(found["reason"]), since)
    except (ValueError, TypeError, KeyError):
        return None


class Held:
    """A lock that this process takes and has.

    Attributes:
        owner: What is written into it.
    """

    def __init__(self, transport: Transport, place: Place, owner: Owner) -> None:
        """Takes nothing yet.

        Args:
            transport: The way to the host; the lock ends with it in any case.
            place: The host.
            owner: What others are told who want it meanwhile.
        """
        self.owner = owner
        self._transport = transport
        self._place = place
        self._grip: Grip | None = None

    def take(self, wait_s: float = 0.0, stopping: threading.Event | None = None) -> None:
        """Takes it.

        Args:
            wait_s: How long another owner is waited for (s).
            stopping: Ends the wait when it is set, within moments.

        Raises:
            Interrupted: It was set, or the transport was interrupted meanwhile.
            Locked: Somebody else has it; the message says who, since when and for what.
            HostNotReady: The host cannot lock.
            HostUnreachable: It cannot be reached.
        """
        deadline = time.monotonic() + wait_s
        while True:
            if stopping and stopping.is_set():
                raise Interrupted(f"the lock of {self._place.name} was no longer waited for")
            left = max(0.0, deadline - time.monotonic())
            # In pieces: an interruption is not heard by what is sent right after it.
            piece = min(left, _PIECE_S)
            script = acquire_lock(self._place.workdir, self.owner.note(), wait_s=piece)
            result, grip = self._transport.hold(
                self._place.host, render(script, {}), timeout_s=piece + _ANSWER_S
            )
            if not result.exit_code:
                self._grip = grip
                return
            if result.exit_code != BUSY or left <= piece:
                raise _refused(self._place, result)

    def check(self) -> None:
        """Raises Locked if somebody has released it meanwhile, or what broke the connection."""
        if self._grip is None or self.was_released:
            raise lost(self._place)
        if error := self._grip.lost():
            raise error

    @property
    def was_released(self) -> bool:
        """Whether somebody has ended what held it, rather than broken the connection."""
        return self._grip is not None and self._grip.was_released

    def give_back(self) -> None:
        """Releases it, if it is still ours and the host can be reached."""
        grip, self._grip = self._grip, None
        # Otherwise it ends with the connection.
        with suppress(KtrdrError, KeyboardInterrupt):
            if grip is not None:
                grip.let_go(render(RELEASE_LOCK, {}), timeout_s=_LOOK_TIMEOUT_S)


@contextmanager
def held(
    transport: Transport, place: Place, owner: Owner, *, wait_s: float = 0.0
) -> Iterator[Held]:
    """Has the host's lock for as long as the block takes; see `Held` for what is raised."""
    lock = Held(transport, place, owner)
    lock.take(wait_s)
    try:
        yield lock
    finally:
        lock.give_back()


def acquire_lock(workdir: str, note: str, *, wait_s: float) -> Script:
    """Return the script that takes a host's lock for the session's own shell.

    Args:
        workdir: The work directory, which is made if it is not there.
        note: One line that says whose lock it is, unique to this owner.
        wait_s: How long to wait for another owner (s).
    """
    seconds = str(max(_LEAST_WAIT_S, round(wait_s)))
    return Script("scripts/acquire_lock.sh", (workdir, seconds, note), is_inline=True)


RELEASE_LOCK: Final = Script("scripts/release_lock.sh", is_inline=True)


def look(transport: Transport, place: Place) -> Owner | None:
    """Who has a host's lock, or None where it is free.

    Raises:
        HostUnreachable: The host cannot be reached.
    """
    script = render(Script("scripts/show_lock.sh", (place.workdir,)), {})
    result = transport.run(place.host, script, timeout_s=_LOOK_TIMEOUT_S)
    return read_shown(result.stdout.splitlines())


def read_shown(lines: list[str]) -> Owner | None:
    """The owner in the output of ``show_lock.sh``; one that is illegible is called unknown."""
    if not lines or lines[0] != "held":
        return None
    return read_note("".join(lines[1:2])) or _UNKNOWN


def force(transport: Transport, place: Place) -> Owner | None:
    """Releases a host's lock, whoever has it, and says who that was; None where it was free.

    Raises:
        HostNotReady: It could not be released.
        HostUnreachable: The host cannot be reached.
    """
    script = render(Script("scripts/break_lock.sh", (place.workdir,)), {})
    result = transport.run(place.host, script, timeout_s=_LOOK_TIMEOUT_S)
    owner = read_shown(result.stdout.splitlines())
    if result.exit_code:
        raise HostNotReady(
            f"the lock of {place.name} on {place.host} could not be released",
            hint=f"See who has it with `fuser -v {_file(place)}` on the host.",
        )
    return owner


_UNKNOWN: Final = Owner("unknown", "somebody unknown", "unknown", datetime.min.replace(tzinfo=UTC))


def lost(place: Place) -> Locked:
    """What is raised when the lock is no longer ours."""
    return Locked(
        f"the lock of {place.name} on {place.host} was lost while this worked",
        hint="Somebody released it, or this machine slept: see `ktrdr deploy history`, and run "
        "the command again.",
    )


def _refused(place: Place, result: RemoteResult) -> KtrdrError:
    if result.exit_code == BUSY:
        owner = read_note(result.stdout.strip()) or _UNKNOWN
        return Locked(
            f"{place.name} on {place.host} is locked by {owner}",
            hint="Wait with --lock-wait SECONDS; `ktrdr deploy lock release` takes it from whoever "
            "certainly does not work there any more.",
        )
    if result.exit_code == NO_FLOCK:
        return HostNotReady(
            f"{place.host} has no program flock, which its lock needs",
            hint="Install the package util-linux on the host.",
        )
    reason = (result.stderr.strip().splitlines() or ["it gave no reason"])[-1]
    return HostNotReady(
        f"{place.host} cannot lock {_file(place)}: {reason}",
        hint="The work directory must be writable, and its disk not full.",
    )


def _file(place: Place) -> str:
    return f"{place.workdir}/{RECORDS}/lock"
