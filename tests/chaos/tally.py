"""Tally of a chaos run: injected faults, hit operations, problems."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

from ktrdr.schemas import Operation
from tests.chaos.faults import FAULTS


@dataclass(frozen=True)
class Hit:
    """Operation that a fault has hit.

    Attributes:
        at: Time by the database's clock.
    """

    operation_id: str
    at: datetime


@dataclass
class ChaosTally:
    """Counts of faults and their effects.

    Attributes:
        injected: Number of injections by fault.
        hits: Hit operations by fault.
        claims: Times of every operation's claims, in order.
        given_up: Number of operations that failed after too many faults, and were resumed.
        problems: Violations, each of which fails the run.
        completed: Number of completed operations by type, child operations included.
    """

    injected: Counter[str] = field(default_factory=Counter)
    hits: dict[str, list[Hit]] = field(default_factory=dict)
    claims: dict[str, list[datetime]] = field(default_factory=dict)
    given_up: int = 0
    problems: list[str] = field(default_factory=list)
    completed: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def record(self, name: str, operations: list[Operation], at: datetime) -> None:
        """Record an injected fault."""
        self.injected[name] += 1
        self.hits.setdefault(name, []).extend(Hit(each.operation_id, at) for each in operations)

    def table(self) -> list[tuple[str, ...]]:
        """Return fault, injections, hit operations, recovered, lost, and cost.

        The cost is the number of operations that were claimed again, and the median and longest
        time from the fault to that claim.
        """
        lost = {problem.partition(":")[0] for problem in self.problems}
        rows = []
        for name in FAULTS:
            hits = self.hits.get(name, [])
            lost_count = sum(hit.operation_id in lost for hit in hits)
            counts = (self.injected[name], len(hits), len(hits) - lost_count, lost_count)
            rows.append((name, *map(str, counts), self._cost(hits)))
        return rows

    def _cost(self, hits: list[Hit]) -> str:
        waits = [wait for hit in hits if (wait := self._wait_s(hit)) is not None]
        return f"{len(waits)}, {median(waits):.1f} s, {max(waits):.1f} s" if waits else "0"

    def _wait_s(self, hit: Hit) -> float | None:
        later = [at for at in self.claims.get(hit.operation_id, ()) if at > hit.at]
        return (later[0] - hit.at).total_seconds() if later else None
