"""Command line of `make bench-deploy`: all measurements, then a table of goals."""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks import report
from benchmarks.deploy import breakdown, comparisons, many_nodes, startup
from benchmarks.deploy.environment import BenchmarkEnvironment, benchmark_environment
from benchmarks.samples import Outcome

# Each with full samples, or with tiny ones that only show that it runs.
MEASUREMENTS: dict[str, Callable[[BenchmarkEnvironment, bool], Outcome]] = {
    "start-up": lambda env, quick: startup.measure_startup(env, 2 if quick else 31),
    "crowd": lambda env, quick: many_nodes.measure_many_nodes(env, *((6, 1) if quick else (50, 7))),
    "no-op": lambda env, quick: comparisons.measure_no_op(env, 1 if quick else 11),
    "breakdown": lambda env, quick: breakdown.measure_breakdown(env, 1 if quick else 11),
    "image": lambda env, quick: comparisons.measure_image_change(env, 1 if quick else 5),
    "first": lambda env, quick: comparisons.measure_first_deploy(env, 1 if quick else 3),
}


if __name__ == "__main__":
    sys.exit(report.run("bench-deploy", __doc__, MEASUREMENTS, benchmark_environment))
