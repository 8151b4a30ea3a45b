"""Start-up time of the command line, compared with the import of click."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from typing import Final

from benchmarks.deploy.contenders import KTRDR
from benchmarks.deploy.environment import BenchmarkEnvironment
from benchmarks.samples import ROW_TITLES, Goal, Outcome, Samples, ratio, timed

_COMMANDS: Final = (
    ("python -c pass", (sys.executable, "-c", "pass")),
    ('python -c "import click"', (sys.executable, "-c", "import click")),
    ("ktrdr --help", (KTRDR, "--help")),
    ("ktrdr deploy --help", (KTRDR, "deploy", "--help")),
    ("ktrdr deploy all --help", (KTRDR, "deploy", "all", "--help")),
)


def measure_startup(env: BenchmarkEnvironment, rounds: int) -> Outcome:  # noqa: ARG001  # same signature as all measurements
    """Measure `--help` of several commands and the import of click, in random order."""
    order, dice = list(range(len(_COMMANDS))), random.Random(1)
    durations: list[list[float]] = [[] for _ in _COMMANDS]
    for _ in range(rounds):
        dice.shuffle(order)
        for number in order:
            durations[number].append(timed(partial(_run, _COMMANDS[number][1])))
    samples = [Samples(seconds) for seconds in durations]
    outcome = Outcome("start-up of the command line", ("", *ROW_TITLES))
    outcome.rows = [[name, *row.row] for (name, _), row in zip(_COMMANDS, samples, strict=True)]
    times = ratio(samples[2], samples[1])
    outcome.goals = [Goal("`ktrdr --help` against `import click`", 2, times, "times")]
    return outcome


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, capture_output=True, check=True)
