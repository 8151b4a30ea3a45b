"""The demonstration: from nothing to a deployed stack that has done real work.

Every step is a command that a user could type; it is shown before it runs, so the demonstration
doubles as a tour.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from lab.place import ROOT, STATE

BACKTEST: Final = ["-p", "symbol=SP500", "-p", "folds=8"]
TRAINING: Final = ["-p", "symbol=NASDAQ", "-p", "epochs=15"]
# Six backtests, which all the workers share.
SWEEP: Final = [
    "-p",
    "symbol=NASDAQ",
    "-p",
    "folds=2",
    "-p",
    'strategy_parameters={"fast": [10, 20, 50], "slow": [100, 200]}',
]


class DemoFailed(Exception):
    """A step of the demonstration ended badly; the message says which and how."""


@dataclass(frozen=True)
class Addresses:
    """Where the lab's services answer on this machine."""

    api: str
    grafana: str
    jaeger: str
    prometheus: str


def environment() -> dict[str, str]:
    """What `. .lab/env` leaves in the environment of a shell."""
    shown = subprocess.run(
        ["bash", "-c", '. "$0" && env -0', str(STATE / "env")],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return dict(entry.split("=", 1) for entry in shown.split("\0") if entry)


class Tour:
    """Runs commands in the lab's environment and shows each with the time it took."""

    def __init__(self, console: Console, env: Mapping[str, str]) -> None:
        self._console = console
        self._env = {**env, "PATH": f"{Path(sys.executable).parent}:{env['PATH']}"}
        self._started = time.monotonic()

    @contextmanager
    def chapter(self, title: str) -> Iterator[None]:
        """A heading, and after its commands the time they took."""
        self._console.print(f"\n[bold]{title}[/bold]")
        before = time.monotonic()
        yield
        now = time.monotonic()
        self._console.print(
            f"[dim]  {now - before:.0f} s; {now - self._started:.0f} s since the lab was up[/dim]"
        )

    def run(self, *command: str) -> None:
        """Shows a command and runs it in the foreground.

        Raises:
            DemoFailed: It exited with anything but 0.
        """
        self._show(command)
        code = subprocess.run(command, cwd=ROOT, env=self._env, check=False).returncode
        if code:
            raise DemoFailed(f"`{shlex.join(command)}` ended with exit code {code}")

    def ask(self, *command: str) -> Any:
        """Runs a command with ``--json`` and gives back what it said."""
        done = subprocess.run(
            [*command, "--json"],
            cwd=ROOT,
            env=self._env,
            check=False,
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            raise DemoFailed(f"`{shlex.join(command)}` ended with exit code {done.returncode}")
        return json.loads(done.stdout)

    def _show(self, command: tuple[str, ...]) -> None:
        self._console.print(
            f"[bold green]$[/bold green] {shlex.join(command)}", highlight=False, soft_wrap=True
        )


def wait_for(what: str, condition: Callable[[], str | None], seconds: float = 60) -> str:
    """Polls until ``condition`` gives a text.

    Raises:
        DemoFailed: It did not in ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            found = condition()
        except OSError:
            found = None
        if found:
            return found
        time.sleep(0.5)
    raise DemoFailed(f"{what}: not seen within {seconds:.0f} s")


def get_json(url: str) -> Any:
    """What a service of the lab answers."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def targets_up(prometheus: str) -> str | None:
    """A sentence once Prometheus has scraped every one of its targets well, else None."""
    active = get_json(f"{prometheus}/api/v1/targets")["data"]["activeTargets"]
    jobs = sorted({target["labels"]["job"] for target in active})
    wanted = {"ktrdr-backend", "ktrdr-workers-b", "ktrdr-workers-c"}
    if not wanted <= set(jobs) or any(target["health"] != "up" for target in active):
        return None
    return f"{len(active)} of {len(active)} targets up: {', '.join(jobs)}"


def trace_spans(jaeger: str, trace_id: str) -> str | None:
    """A sentence once the trace has arrived from backend and worker, else None."""
    traces = get_json(f"{jaeger}/api/traces/{trace_id}").get("data") or []
    services = {
        process["serviceName"] for trace in traces for process in trace["processes"].values()
    }
    if len(services) < 2:
        return None
    spans = sum(len(trace["spans"]) for trace in traces)
    return f"one trace, {spans} spans, through {' and '.join(sorted(services))}"


def deploy(tour: Tour) -> None:
    """The three commands that this project is about."""
    with tour.chapter("Deploy the core, then the workers"):
        tour.run("ktrdr", "deploy", "core", "all")
        tour.run("ktrdr", "deploy", "workers", "B")
        tour.run("ktrdr", "deploy", "workers", "C")


def work(tour: Tour) -> str:
    """A backtest, a training and a sweep on real market data; gives the backtest's operation id."""
    with tour.chapter("Real work on real market data"):
        tour.run("ktrdr", "token", "create", "--role", "operator", "--save")
        for symbol in ("SP500", "NASDAQ"):
            tour.run("ktrdr", "data", "import", f".lab/data/{symbol}.csv", "--symbol", symbol)
        backtest: str = tour.ask("ktrdr", "operations", "submit", "backtest", *BACKTEST)[
            "operation_id"
        ]
        training = tour.ask("ktrdr", "operations", "submit", "training", *TRAINING)["operation_id"]
        sweep = tour.ask("ktrdr", "operations", "submit", "sweep", *SWEEP)["operation_id"]
        tour.run("ktrdr", "operations", "watch", backtest, training, sweep)
        for operation in (backtest, training, sweep):
            tour.run("ktrdr", "operations", "results", operation, "--save", ".lab/results")
    return backtest


def look(tour: Tour, console: Console, addresses: Addresses, backtest: str) -> None:
    """Metrics and traces have arrived where they should."""
    with tour.chapter("Traces and metrics"):
        console.print(
            "  Prometheus: " + wait_for("targets", lambda: targets_up(addresses.prometheus), 90)
        )
        trace = tour.ask("ktrdr", "operations", "show", backtest)["trace_id"]
        console.print(
            "  Jaeger: " + wait_for("trace", lambda: trace_spans(addresses.jaeger, trace))
        )
        tour.run("ktrdr", "status")


def summary(addresses: Addresses, reports: list[Path]) -> Table:
    """What a person wants to know at the end."""
    table = Table(title="The rehearsal homelab is yours", title_justify="left", box=None)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.show_header = False
    table.add_row("API", f"{addresses.api}/api/v1/docs")
    table.add_row("Grafana", f"{addresses.grafana} (user admin, password in .lab/vault.json)")
    table.add_row("Jaeger", addresses.jaeger)
    table.add_row("Prometheus", addresses.prometheus)
    for report in reports:
        table.add_row("Report", str(report.relative_to(ROOT)))
    table.add_row("", "")
    table.add_row("Try next", ". .lab/env")
    table.add_row("", "ktrdr operations submit backtest -p symbol=NASDAQ --wait")
    table.add_row("", "ktrdr deploy workers B --scale 2")
    table.add_row("", "ktrdr deploy core all --dry-run")
    return table


def main() -> int:
    """Runs the tour; the exit code is 0 when every step went well."""
    begun = time.monotonic()
    console = Console(highlight=False)
    try:
        code = subprocess.run([sys.executable, "-m", "lab", "up"], cwd=ROOT, check=False).returncode
        if code:
            return code
        env = environment()
        addresses = Addresses(
            api=env["KTRDR_API_URL"],
            grafana=env["KTRDR_LAB_GRAFANA_URL"],
            jaeger=env["KTRDR_LAB_JAEGER_URL"],
            prometheus=env["KTRDR_LAB_PROMETHEUS_URL"],
        )
        tour = Tour(console, {**os.environ, **env})
        deploy(tour)
        backtest = work(tour)
        look(tour, console, addresses, backtest)
    except DemoFailed as failure:
        Console(stderr=True, highlight=False).print(f"the demonstration stopped: {failure}")
        return 1
    except KeyboardInterrupt:
        return 130
    reports = sorted((ROOT / ".lab/results").rglob("report.html"), key=lambda p: p.stat().st_mtime)
    console.print()
    console.print(summary(addresses, reports[-2:]))
    console.print(f"\n[dim]{time.monotonic() - begun:.0f} s from start to end[/dim]")
    return 0
