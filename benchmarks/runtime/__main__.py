"""`make bench-runtime`: every measurement, then a table of goals; exit code 1 if one is missed."""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks import report
from benchmarks.runtime import fleet, latency, responsiveness, scaling, table, throughput
from benchmarks.runtime.ground import Ground, prepared_ground
from benchmarks.samples import Outcome

# In full, and small enough to see in a minute or two that everything runs.
MEASUREMENTS: dict[str, Callable[[Ground, bool], Outcome]] = {
    "latency": lambda ground, quick: latency.submit_to_start(ground, 10 if quick else 300),
    "start-up": lambda ground, quick: latency.submit_to_work(ground, 1 if quick else 15),
    "throughput": lambda ground, quick: throughput.through_the_engine(
        ground, *((20, 1) if quick else (500, 3))
    ),
    "backtests": lambda ground, quick: scaling.of_backtests(ground, *((2, 1) if quick else (8, 2))),
    "sweep": lambda ground, quick: scaling.of_a_sweep(ground, *((2, 1) if quick else (16, 2))),
    "fleet": lambda ground, quick: fleet.a_growing_fleet(
        ground, *(((3, 10), 1) if quick else ((10, 30, 100, 300, 1000), 30))
    ),
    "table": lambda ground, quick: table.full_and_empty(
        ground, *((1000, 5) if quick else (100_000, 200))
    ),
    "responsiveness": lambda ground, quick: responsiveness.health_while_busy(
        ground, 10 if quick else 500
    ),
}


if __name__ == "__main__":
    sys.exit(report.run("bench-runtime", __doc__, MEASUREMENTS, prepared_ground))
