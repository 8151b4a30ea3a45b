"""What a run of faults came to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

from ktrdr.schemas import Operation
from tests.chaos.faults import FAULTS


@dataclass(frozen=True)
class Hit:
    """An operation that a fault has struck.

    Attributes:
        at: When, by the database's clock.
    """

    operation_id: str
    at: datetime


@dataclass
class Account:
    """What faults have done.

    Attributes:
        injected: How often each was injected.
        hit: The operations each has hit, as often as it did.
        started: When each operation was claimed, in order.
        given_up: Operations that failed because they had been hit too often, and were resumed.
        problems: What must not be: each is a reason to fail.
        completed: How many operations completed, parts of sweeps among them, by type.
    """

    injected: Counter[str] = field(default_factory=Counter)
    hit: dict[str, list[Hit]] = field(default_factory=dict)
    started: dict[str, list[datetime]] = field(default_factory=dict)
    given_up: int = 0
    problems: list[str] = field(default_factory=list)
    completed: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def note(self, name: str, hit: list[Operation], at: datetime) -> None:
        """Enters a fault that was injected."""
        self.injected[name] += 1
        self.hit.setdefault(name, []).extend(Hit(each.operation_id, at) for each in hit)

    def table(self) -> list[tuple[str, ...]]:
        """Fault, injected, operations hit, recovered, lost, and what it cost.

        The cost is how many of them had to be claimed again, and the median and the longest time
        from the fault to that claim.
        """
        lost = {problem.partition(":")[0] for problem in self.problems}
        rows = []
        for name in FAULTS:
            hit = self.hit.get(name, [])
            gone = sum(each.operation_id in lost for each in hit)
            figures = (self.injected[name], len(hit), len(hit) - gone, gone)
            rows.append((name, *map(str, figures), self._cost(hit)))
        return rows

    def _cost(self, hit: list[Hit]) -> str:
        waits = [wait for each in hit if (wait := self._wait(each)) is not None]
        return f"{len(waits)}, {median(waits):.1f} s, {max(waits):.1f} s" if waits else "0"

    def _wait(self, hit: Hit) -> float | None:
        later = [at for at in self.started.get(hit.operation_id, ()) if at > hit.at]
        return (later[0] - hit.at).total_seconds() if later else None
