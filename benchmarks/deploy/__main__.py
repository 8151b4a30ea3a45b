"""`make bench-deploy`: every measurement, then a table of goals; exit code 1 if one is missed."""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks import report
from benchmarks.deploy import breakdown, crowd, jobs, starting
from benchmarks.deploy.ground import Ground, prepared_ground
from benchmarks.samples import Outcome

# In full, and small enough to see that everything runs.
MEASUREMENTS: dict[str, Callable[[Ground, bool], Outcome]] = {
    "start-up": lambda ground, quick: starting.of_the_command_line(ground, 2 if quick else 31),
    "crowd": lambda ground, quick: crowd.fifty_and_three(ground, *((6, 1) if quick else (50, 7))),
    "no-op": lambda ground, quick: jobs.nothing_to_change(ground, 1 if quick else 11),
    "breakdown": lambda ground, quick: breakdown.of_nothing_to_change(ground, 1 if quick else 11),
    "image": lambda ground, quick: jobs.another_image(ground, 1 if quick else 5),
    "first": lambda ground, quick: jobs.first_deploy(ground, 1 if quick else 3),
}


if __name__ == "__main__":
    sys.exit(report.run("bench-deploy", __doc__, MEASUREMENTS, prepared_ground))
