"""`make bench-runtime`: run every measurement and compare it with its goals."""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks import report
from benchmarks.runtime import fleet, latency, responsiveness, scaling, table, throughput
from benchmarks.runtime.environment import BenchmarkEnvironment, prepare_environment
from benchmarks.samples import Outcome

# Full sizes, and small ones that show in a minute or two that everything runs.
MEASUREMENTS: dict[str, Callable[[BenchmarkEnvironment, bool], Outcome]] = {
    "latency": lambda env, quick: latency.submit_to_start(env, 10 if quick else 300),
    "start-up": lambda env, quick: latency.submit_to_work(env, 1 if quick else 15),
    "throughput": lambda env, quick: throughput.measure_throughput(
        env, *((20, 1) if quick else (500, 3))
    ),
    "backtests": lambda env, quick: scaling.scale_backtests(env, *((2, 1) if quick else (8, 2))),
    "sweep": lambda env, quick: scaling.scale_sweep(env, *((2, 1) if quick else (16, 2))),
    "fleet": lambda env, quick: fleet.measure_growing_fleet(
        env, *(((3, 10), 1) if quick else ((10, 30, 100, 300, 1000), 30))
    ),
    "table": lambda env, quick: table.compare_tables(
        env, *((1000, 5) if quick else (100_000, 200))
    ),
    "responsiveness": lambda env, quick: responsiveness.measure_health(env, 10 if quick else 500),
}


if __name__ == "__main__":
    sys.exit(report.run("bench-runtime", __doc__, MEASUREMENTS, prepare_environment))
