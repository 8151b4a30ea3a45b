"""Does one thing on several hosts at once, each under its lock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from ktrdr.deployment.homelab.hosts import Place
from ktrdr.deployment.hosts import lock
from ktrdr.deployment.hosts.lock import Held, Owner
from ktrdr.deployment.ssh.interface import Transport
from ktrdr.errors import Interrupted, KtrdrError

MAX_AT_ONCE: Final = 16
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Done(Generic[_Result]):
    """What came of it on one host: a result, or why there is none."""

    place: Place
    result: _Result | None = None
    error: KtrdrError | None = None


@dataclass(frozen=True, slots=True)
class Manner:
    """How hosts are gone about.

    Attributes:
        transport: The way to them.
        owner: What their locks say.
        lock_wait_s: How long another owner is waited for (s).
        stopping: Is set on Ctrl-C, for what is done to stop at the next opportunity.
    """

    transport: Transport
    owner: Owner
    lock_wait_s: float
    stopping: threading.Event


def on_each(
    places: Sequence[Place], act: Callable[[Place, Held], _Result], manner: Manner
) -> list[Done[_Result]]:
    """Does it everywhere, to the end, whatever fails on one of the hosts.

    Raises:
        Interrupted: Ctrl-C; the scripts that ran were ended, and the locks given back.
    """

    def under_lock(place: Place) -> _Result:
        with lock.held(manner.transport, place, manner.owner, wait_s=manner.lock_wait_s) as held:
            return act(place, held)

    return look_at_each(places, under_lock, manner)


def look_at_each(
    places: Sequence[Place], look: Callable[[Place], _Result], manner: Manner
) -> list[Done[_Result]]:
    """The same without locks, for what changes nothing."""

    def attempt(place: Place) -> Done[_Result]:
        try:
            return Done(place, look(place))
        except KtrdrError as error:
            return Done(place, error=error)

    with ThreadPoolExecutor(max_workers=MAX_AT_ONCE) as pool:
        running = [pool.submit(attempt, place) for place in places]
        try:
            wait(running)
        except KeyboardInterrupt as exc:
            manner.stopping.set()
            manner.transport.interrupt()
            raise Interrupted(
                f"{manner.owner.reason} was interrupted",
                hint="What ran on the hosts was ended; the same command again finishes the work.",
            ) from exc
    return [each.result() for each in running]
