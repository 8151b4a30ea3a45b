"""Breakdown of the time of a deploy that changes nothing, by phase."""

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
from benchmarks.deploy.environment import BenchmarkEnvironment, LabEnvironment
from benchmarks.deploy.traced_deploy import REQUESTED_AT
from benchmarks.samples import Outcome
from lab.config import ROOT

Span = dict[str, Any]


def measure_breakdown(env: BenchmarkEnvironment, rounds: int) -> Outcome:
    """Measure each phase of ktrdr's command, traced from inside."""
    lab = env.lab
    outcome = Outcome(
        "time of a deploy that changes nothing, by phase (medians)",
        ("", "host", "start ms", "duration ms"),
    )
    for words in DEPLOYS:
        samples: defaultdict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
        for _ in range(rounds):
            for phase, span in phases(_run_traced(lab, words)):
                samples[phase].append(span)
        outcome.rows.append([f"ktrdr {' '.join(words)}", "", "", ""])
        for (name, host), times in sorted(samples.items(), key=lambda item: _median(item[1], 0)):
            figures = (f"{1000 * _median(times, part):.0f}" for part in (0, 1))
            outcome.rows.append([f"  {name}", host.partition(".")[0], *figures])
    outcome.notes = [
        f"{rounds} sequential runs; phases of different hosts overlap",
        "script 1 locks, 2 checks, 3 fetches and compares, 4 records",
    ]
    return outcome


def _run_traced(lab: LabEnvironment, words: Command) -> list[Span]:
    file = Path(lab.directory, "spans.json")
    env = {**lab.access.env, "KTRDR_SSH_CONFIG": str(lab.access.ssh_config)}
    command = [sys.executable, "-m", "benchmarks.deploy.traced_deploy", str(file), *words]
    subprocess.run(
        [*command, "--tag", lab.tag],
        cwd=ROOT,
        env={**env, REQUESTED_AT: repr(time.monotonic())},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    spans: list[Span] = json.loads(file.read_text())
    return spans


def phases(spans: list[Span]) -> Iterator[tuple[tuple[str, str], tuple[float, float]]]:
    """Yield start and duration (s, relative to the command) of each phase, by name and host."""
    total = next(span for span in spans if span["what"] == "all")
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
        yield (what, host), (began - total["began"], span["ended"] - began)
    last = max(span["ended"] for span in spans if span is not total)
    yield ("print the result", ""), (last - total["began"], total["ended"] - last)


def _median(times: list[tuple[float, float]], part: int) -> float:
    return statistics.median(each[part] for each in times)
