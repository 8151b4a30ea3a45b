"""How long the command line takes to say what it can do, against what it cannot do without."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from typing import Final

from benchmarks.deploy.contenders import KTRDR
from benchmarks.deploy.ground import Ground
from benchmarks.samples import ROW_TITLES, Goal, Outcome, Samples, ratio, timed

_COMMANDS: Final = (
    ("python -c pass", (sys.executable, "-c", "pass")),
    ('python -c "import click"', (sys.executable, "-c", "import click")),
    ("ktrdr --help", (KTRDR, "--help")),
    ("ktrdr deploy --help", (KTRDR, "deploy", "--help")),
    ("ktrdr deploy all --help", (KTRDR, "deploy", "all", "--help")),
)


def of_the_command_line(ground: Ground, rounds: int) -> Outcome:  # noqa: ARG001  # all are given it
    """Helps, in random order with the import of click alone."""
    order, dice = list(range(len(_COMMANDS))), random.Random(1)
    taken: list[list[float]] = [[] for _ in _COMMANDS]
    for _ in range(rounds):
        dice.shuffle(order)
        for number in order:
            taken[number].append(timed(partial(_run, _COMMANDS[number][1])))
    samples = [Samples(seconds) for seconds in taken]
    outcome = Outcome("the command line starts", ("", *ROW_TITLES))
    outcome.rows = [[name, *each.row] for (name, _), each in zip(_COMMANDS, samples, strict=True)]
    times = ratio(samples[2], samples[1])
    outcome.goals = [Goal("`ktrdr --help` against `import click`", 2, times, "times")]
    return outcome


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, capture_output=True, check=True)
