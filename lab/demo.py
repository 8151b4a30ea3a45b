"""The demonstration: start the lab, deploy the stack, run operations on market data.

Every step is a command that a user could type. It is printed before it runs.
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

from lab.config import ROOT, STATE

BACKTEST: Final = ["-p", "symbol=SP500", "-p", "folds=8"]
TRAINING: Final = ["-p", "symbol=NASDAQ", "-p", "epochs=15"]
# Six backtests, which all workers share.
SWEEP: Final = [
    "-p",
    "symbol=NASDAQ",
    "-p",
    "folds=2",
    "-p",
    'strategy_parameters={"fast": [10, 20, 50], "slow": [100, 200]}',
]


class DemoError(Exception):
    """Failure of a step of the demonstration."""


@dataclass(frozen=True)
class Addresses:
    """URLs of the lab's services on this machine."""

    api: str
    grafana: str
    jaeger: str
    prometheus: str


def lab_environment() -> dict[str, str]:
    """Return the environment of a shell after `. .lab/env`."""
    output = subprocess.run(
        ["bash", "-c", '. "$0" && env -0', str(STATE / "env")],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return dict(entry.split("=", 1) for entry in output.split("\0") if entry)


class DemoRunner:
    """Runner of commands in the lab's environment, with printed durations."""

    def __init__(self, console: Console, env: Mapping[str, str]) -> None:
        self._console = console
        self._env = {**env, "PATH": f"{Path(sys.executable).parent}:{env['PATH']}"}
        self._started = time.monotonic()

    @contextmanager
    def section(self, title: str) -> Iterator[None]:
        """Print a heading, and the duration at the end."""
        self._console.print(f"\n[bold]{title}[/bold]")
        before = time.monotonic()
        yield
        now = time.monotonic()
        self._console.print(
            f"[dim]  {now - before:.0f} s; {now - self._started:.0f} s in total[/dim]"
        )

    def run(self, *command: str) -> None:
        """Print a command and run it in the foreground.

        Raises:
            DemoError: The command failed.
        """
        self._console.print(
            f"[bold green]$[/bold green] {shlex.join(command)}", highlight=False, soft_wrap=True
        )
        code = subprocess.run(command, cwd=ROOT, env=self._env, check=False).returncode
        if code:
            raise DemoError(f"`{shlex.join(command)}` exited with code {code}")

    def run_json(self, *command: str) -> Any:
        """Run a command with ``--json``; return its output."""
        done = subprocess.run(
            [*command, "--json"],
            cwd=ROOT,
            env=self._env,
            check=False,
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            raise DemoError(f"`{shlex.join(command)}` exited with code {done.returncode}")
        return json.loads(done.stdout)


def wait_for(description: str, condition: Callable[[], str | None], seconds: float = 60) -> str:
    """Poll until ``condition`` returns a text.

    Raises:
        DemoError: It returned none within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            text = condition()
        except OSError:
            text = None
        if text:
            return text
        time.sleep(0.5)
    raise DemoError(f"timeout after {seconds:.0f} s, waiting for {description}")


def get_json(url: str) -> Any:
    """Return the JSON response of a service of the lab."""
    with urllib.request.urlopen(url, timeout=5) as response:
        return json.load(response)


def targets_up(prometheus: str) -> str | None:
    """Return a description of Prometheus's targets once all are up, else None."""
    active = get_json(f"{prometheus}/api/v1/targets")["data"]["activeTargets"]
    jobs = sorted({target["labels"]["job"] for target in active})
    required = {"ktrdr-backend", "ktrdr-workers-b", "ktrdr-workers-c"}
    if not required <= set(jobs) or any(target["health"] != "up" for target in active):
        return None
    return f"{len(active)} of {len(active)} targets up: {', '.join(jobs)}"


def trace_spans(jaeger: str, trace_id: str) -> str | None:
    """Return a description of a trace once backend and worker have sent it, else None."""
    traces = get_json(f"{jaeger}/api/traces/{trace_id}").get("data") or []
    services = {
        process["serviceName"] for trace in traces for process in trace["processes"].values()
    }
    if len(services) < 2:
        return None
    spans = sum(len(trace["spans"]) for trace in traces)
    return f"one trace, {spans} spans, through {' and '.join(sorted(services))}"


def deploy_stack(demo: DemoRunner) -> None:
    """Deploy the core and both worker nodes."""
    with demo.section("Deploy the core, then the workers"):
        demo.run("ktrdr", "deploy", "core", "all")
        demo.run("ktrdr", "deploy", "workers", "B")
        demo.run("ktrdr", "deploy", "workers", "C")


def run_operations(demo: DemoRunner) -> str:
    """Run a backtest, a training and a sweep on market data; return the backtest's operation id."""
    with demo.section("Run a backtest, a training and a sweep on market data"):
        demo.run("ktrdr", "token", "create", "--role", "operator", "--save")
        for symbol in ("SP500", "NASDAQ"):
            file = f"{STATE.name}/data/{symbol}.csv"
            demo.run("ktrdr", "data", "import", file, "--symbol", symbol)
        operations: list[str] = [
            demo.run_json("ktrdr", "operations", "submit", kind, *parameters)["operation_id"]
            for kind, parameters in (
                ("backtest", BACKTEST),
                ("training", TRAINING),
                ("sweep", SWEEP),
            )
        ]
        demo.run("ktrdr", "operations", "watch", *operations)
        for operation in operations:
            demo.run("ktrdr", "operations", "results", operation, "--save", f"{STATE.name}/results")
    return operations[0]


def check_monitoring(
    demo: DemoRunner, console: Console, addresses: Addresses, backtest: str
) -> None:
    """Wait until metrics and traces have arrived."""
    with demo.section("Verify metrics and traces"):
        console.print(
            "  Prometheus: " + wait_for("targets", lambda: targets_up(addresses.prometheus), 90)
        )
        trace = demo.run_json("ktrdr", "operations", "show", backtest)["trace_id"]
        console.print(
            "  Jaeger: " + wait_for("trace", lambda: trace_spans(addresses.jaeger, trace))
        )
        demo.run("ktrdr", "status")


def summary_table(addresses: Addresses, reports: list[Path]) -> Table:
    """Return the table of addresses, reports and next commands."""
    table = Table(title="The lab is ready", title_justify="left", box=None)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.show_header = False
    table.add_row("API", f"{addresses.api}/api/v1/docs")
    login = f"user admin, password in {STATE.name}/vault.json"
    table.add_row("Grafana", f"{addresses.grafana} ({login})")
    table.add_row("Jaeger", addresses.jaeger)
    table.add_row("Prometheus", addresses.prometheus)
    for report in reports:
        table.add_row("Report", str(report.relative_to(ROOT)))
    table.add_row("", "")
    table.add_row("Try next", f". {STATE.name}/env")
    table.add_row("", "ktrdr operations submit backtest -p symbol=NASDAQ --wait")
    table.add_row("", "ktrdr deploy workers B --scale 2")
    table.add_row("", "ktrdr deploy core all --dry-run")
    return table


def main() -> int:
    """Run the demonstration; return the exit code."""
    started = time.monotonic()
    console = Console(highlight=False)
    try:
        code = subprocess.run([sys.executable, "-m", "lab", "up"], cwd=ROOT, check=False).returncode
        if code:
            return code
        env = lab_environment()
        addresses = Addresses(
            api=env["KTRDR_API_URL"],
            grafana=env["KTRDR_LAB_GRAFANA_URL"],
            jaeger=env["KTRDR_LAB_JAEGER_URL"],
            prometheus=env["KTRDR_LAB_PROMETHEUS_URL"],
        )
        demo = DemoRunner(console, {**os.environ, **env})
        deploy_stack(demo)
        backtest = run_operations(demo)
        check_monitoring(demo, console, addresses, backtest)
    except DemoError as error:
        Console(stderr=True, highlight=False).print(f"error: the demonstration failed: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    reports = sorted((STATE / "results").rglob("report.html"), key=lambda p: p.stat().st_mtime)
    console.print()
    console.print(summary_table(addresses, reports[-2:]))
    console.print(f"\n[dim]finished in {time.monotonic() - started:.0f} s[/dim]")
    return 0
