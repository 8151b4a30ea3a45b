"""Where the time of a deploy goes that changes nothing, from the command to its end."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.deploy.contenders import DEPLOYS, Command
from benchmarks.deploy.ground import Ground, LabGround
from benchmarks.deploy.traced import WISHED
from benchmarks.samples import Outcome
from lab.config import ROOT

Span = dict[str, Any]


def of_nothing_to_change(ground: Ground, rounds: int) -> Outcome:
    """Each of ktrdr's commands by itself, watched from inside."""
    lab = ground.lab
    outcome = Outcome(
        "where a deploy that changes nothing spends its time (medians)",
        ("", "host", "from ms", "takes ms"),
    )
    for words in DEPLOYS:
        taken: defaultdict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
        for _ in range(rounds):
            for phase, span in phases(_traced(lab, words)):
                taken[phase].append(span)
        outcome.rows.append([f"ktrdr {' '.join(words)}", "", "", ""])
        for (what, host), times in sorted(taken.items(), key=lambda item: _median(item[1], 0)):
            figures = (f"{1000 * _median(times, part):.0f}" for part in (0, 1))
            outcome.rows.append([f"  {what}", host.partition(".")[0], *figures])
    outcome.notes = [
        f"{rounds} runs of each, one after the other; hosts of one command overlap",
        "script 1 takes the lock, 2 checks, 3 fetches and compares, 4 records",
    ]
    return outcome


def _traced(lab: LabGround, words: Command) -> list[Span]:
    file = Path(lab.directory, "spans.json")
    env = {**lab.way.env, "KTRDR_SSH_CONFIG": str(lab.way.ssh_config)}
    command = [sys.executable, "-m", "benchmarks.deploy.traced", str(file), *words]
    subprocess.run(
        [*command, "--tag", lab.tag],
        cwd=ROOT,
        env={**env, WISHED: repr(time.monotonic())},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    spans: list[Span] = json.loads(file.read_text())
    return spans


def phases(spans: list[Span]) -> Iterator[tuple[tuple[str, str], tuple[float, float]]]:
    """Begin and length (in seconds, from the command on) of each phase, by its name and host."""
    whole = next(span for span in spans if span["what"] == "all")
    connecting = {span["host"]: span for span in spans if span["what"] == "connect"}
    numbers: Counter[str] = Counter()
    for span in sorted(spans, key=lambda span: span["began"]):
        what, host, began = span["what"], span["host"], span["began"]
        if what == "script":
            numbers[host] += 1
            what = f"script {numbers[host]}"
            link = connecting.get(host)
            if link and began <= link["began"] <= span["ended"]:
                began = link["ended"]
        yield (what, host), (began - whole["began"], span["ended"] - began)
    last = max(span["ended"] for span in spans if span is not whole)
    yield ("shows the result, ends", ""), (last - whole["began"], whole["ended"] - last)


def _median(times: list[tuple[float, float]], part: int) -> float:
    return statistics.median(each[part] for each in times)
