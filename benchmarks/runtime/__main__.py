"""Command line of `make bench-runtime`: all measurements, then a table of goals."""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks import report
from benchmarks.runtime import fleet, latency, responsiveness, scaling, table, throughput
from benchmarks.runtime.ground import Ground, prepared_ground
from benchmarks.samples import Outcome

# Each with full samples, or with tiny ones that only show that it runs.
MEASUREMENTS: dict[str, Callable[[Ground, bool], Outcome]] = {
    "latency": lambda ground, quick: latency.measure_latency(ground, 10 if quick else 300),
    "start-up": lambda ground, quick: latency.measure_startup(ground, 1 if quick else 15),
    "throughput": lambda ground, quick: throughput.measure_throughput(
        ground, *((20, 1) if quick else (500, 3))
    ),
    "backtests": lambda ground, quick: scaling.measure_backtests(
        ground, *((2, 1) if quick else (8, 2))
    ),
    "sweep": lambda ground, quick: scaling.measure_sweep(ground, *((2, 1) if quick else (16, 2))),
    "fleet": lambda ground, quick: fleet.measure_fleet(
        ground, *(((3, 10), 1) if quick else ((10, 30, 100, 300, 1000), 30))
    ),
    "table": lambda ground, quick: table.measure_table(
        ground, *((1000, 5) if quick else (100_000, 200))
    ),
    "responsiveness": lambda ground, quick: responsiveness.measure_responsiveness(
        ground, 10 if quick else 500
    ),
}


if __name__ == "__main__":
    sys.exit(report.run("bench-runtime", __doc__, MEASUREMENTS, prepared_ground))
