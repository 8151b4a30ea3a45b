"""Schedule of cases: fault, deploy, step and time, derived from a seed to be repeatable."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.chaos.deploy.faults import FAULTS

# Steps as the operator sees them, with the interval in which a fault may occur (s after the start).
# The lock is taken while the host is checked. Recording is visible only as the end of `verify`.
STEPS: dict[str, tuple[float, float]] = {
    "read secrets": (0.0, 0.15),
    "lock": (0.0, 0.4),
    "check": (0.3, 0.9),
    "fetch": (0.0, 1.5),
    "apply": (0.0, 4.0),
    "verify": (0.0, 6.0),
    "record": (0.0, 0.25),
}
# Most deploys are of a node's workers, some of the backend, and a few of all hosts.
_TARGETS = ("B", "C", "B", "C", "B", "C", "B", "C", "B", "C", "core")
_EVERY_ALL = 20


@dataclass(frozen=True)
class Case:
    """Deploy with one fault.

    Attributes:
        seed: Seed of the schedule.
        number: Position in the schedule, from 1.
        fault: Name of the fault.
        step: Step in which the fault is injected.
        into_s: Time of the fault after the start of the step (s).
        target: B, C, core (its backend) or all.
    """

    seed: int
    number: int
    fault: str
    step: str
    into_s: float
    target: str

    @property
    def dice(self) -> random.Random:
        """Random generator for further choices, derived from seed and number."""
        return random.Random(f"{self.seed}:{self.number}")

    def __str__(self) -> str:
        where = {"core": "core backend", "all": "all"}.get(self.target, f"workers {self.target}")
        return f"{self.number:3} {where:12} {self.fault}, {self.into_s:.2f} s into {self.step}"


def schedule(seed: int) -> Iterator[Case]:
    """Yield cases forever: every fault in each of its steps, in random order, then again."""
    number, turn = 0, 0
    while True:
        dice = random.Random(f"{seed}/{turn}")
        pairs = [(name, step) for name, fault in FAULTS.items() for step in fault.steps]
        for name, step in dice.sample(pairs, len(pairs)):
            number += 1
            yield Case(
                seed=seed,
                number=number,
                fault=name,
                step=step,
                into_s=round(dice.uniform(*STEPS[step]), 2),
                target=_target(name, number, dice),
            )
        turn += 1


def first_case_of_each_fault(seed: int, *, leave_out: Iterable[str] = ()) -> list[Case]:
    """Return the first case of each fault on a worker node."""
    names = [name for name in FAULTS if name not in leave_out]
    cases: dict[str, Case] = {}
    for case in schedule(seed):
        if case.fault in names and case.target in ("B", "C"):
            cases.setdefault(case.fault, case)
        if len(cases) == len(names):
            break
    return list(cases.values())


def _target(name: str, number: int, dice: random.Random) -> str:
    fault = FAULTS[name]
    if fault.workers_only:
        return dice.choice(("B", "C"))
    if number % _EVERY_ALL == 0 and not fault.one_host:
        return "all"
    return dice.choice(_TARGETS)
