"""Display of running deploys."""

from __future__ import annotations

import io
import re
import threading
import time

import pytest
from rich.console import Console

from ktrdr.cli.deploy_display import DeployDisplay
from ktrdr.deployment.deploy import events
from ktrdr.deployment.deploy.comparison import Action, Comparison, ServiceChange
from ktrdr.deployment.hosts.history import DeployKind, HistoryEntry
from ktrdr.deployment.hosts.host import DeployId
from tests.unit.deployment.conftest import NOW

WIDTH = 80
NAMES = ["core", "workers B", "workers Basement"]
GOOD = HistoryEntry(DeployId("r1", "ada", NOW), DeployKind.DEPLOY, "all", "sha-0000001", None, "c")


def terminal_console() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=WIDTH, highlight=False)


def pipe_console() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=200, highlight=False)


def text(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def plain_lines(console: Console) -> list[str]:
    """Return the written lines without colours and cursor movements."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text(console)).replace("\r", "\n").splitlines()


def make_display(console: Console, names: list[str] = NAMES, verbosity: int = 0) -> DeployDisplay:
    return DeployDisplay(console, names, verbosity=verbosity)


def send_step(display: DeployDisplay, name: str, detail: str = "Docker 28.1.0") -> None:
    display.show(name, events.StepStarted("check the host", name))
    display.show(name, events.Output("stderr", "db Pulling " + "x" * 200))
    display.show(name, events.StepFinished("check the host", 1.25, detail))


def test_a_step_is_one_line_with_its_time_and_detail() -> None:
    console = pipe_console()
    with make_display(console, ["core"]) as display:
        send_step(display, "core")
    assert plain_lines(console) == ["✓ check the host          1.2 s  Docker 28.1.0"]


def test_lines_of_several_hosts_begin_with_their_names_and_are_aligned() -> None:
    console = pipe_console()
    with make_display(console) as display:
        display.show("", events.StepStarted("read the secrets"))
        display.show("", events.StepFinished("read the secrets", 0.5, "5 fields"))
        for name in NAMES:
            send_step(display, name)
            display.show(name, events.StepSkipped("apply", "nothing to do"))
    lines = plain_lines(console)
    assert len({line.index("✓") for line in lines if "✓" in line}) == 1
    assert len({line.index("nothing to do") for line in lines if "–" in line}) == 1
    assert [line[:16].strip() for line in lines if "✓" in line] == ["", *NAMES]


@pytest.mark.parametrize("names", [["core"], NAMES])
def test_no_line_is_wider_than_80_columns(names: list[str]) -> None:
    console = terminal_console()
    with make_display(console, names) as display:
        for name in names:
            send_step(display, name, "what came of it, in more words than fit " * 3)
            display.show(name, events.Waiting("backend is starting " * 9))
            display.show(name, events.StepSkipped("check the host", "--skip-validation " * 9))
            display.show(name, events.RollbackStarted(GOOD, "backend is not well"))
    assert max(map(len, plain_lines(console))) <= WIDTH
    assert any(line.endswith("…") for line in plain_lines(console)), "what is left out is told"


def test_the_moving_lines_of_several_hosts_fit_too() -> None:
    console = terminal_console()
    with make_display(console) as display:
        for name in NAMES:
            display.show(name, events.StepStarted("wait until healthy", name))
            display.show(name, events.Waiting("backtest-worker-1 is not registered yet " * 5))
        time.sleep(0.3)
        assert len(display._render_active().renderables) == 3
    lines = [line for line in plain_lines(console) if line.strip()]
    assert lines
    assert max(map(len, lines)) <= WIDTH
    for line in lines:
        assert re.match(r"(core|workers B|workers Basement) +\S wait until healthy +\d", line), line
        assert "s  backtest-worker-1 is not" in line


def test_the_display_is_legible_without_colour() -> None:
    console = pipe_console()
    display = make_display(console, ["core"])
    for event in (
        events.StepFailed("apply", 2.0),
        events.StepSkipped("check the host", "--skip-validation"),
        events.RollbackStarted(GOOD, "backend is not well"),
        events.Warned("its tag was moved"),
    ):
        display.show("core", event)
    assert "\x1b" not in text(console)
    assert plain_lines(console) == [
        "✗ apply                   2.0 s",
        "– check the host                 --skip-validation",
        "  backend is not well",
        "↶ roll back                      to sha-0000001, the last good release",
        "  warning: its tag was moved",
    ]


def test_changes_and_their_reasons_follow_the_step() -> None:
    console = pipe_console()
    changes = (
        ServiceChange("db", Action.UNCHANGED),
        ServiceChange("backend", Action.RECREATED, "a → b"),
    )
    comparison = Comparison(changes, ("+ monitoring/x.yml",), before={}, destructive_effects=())
    make_display(console, ["core"]).show("core", events.Compared(comparison))
    assert plain_lines(console) == [
        f"    backend: {Action.RECREATED.planned_label} (a → b)",
        "    + monitoring/x.yml",
    ]


def test_markup_in_the_output_of_hosts_is_not_interpreted() -> None:
    console = pipe_console()
    display = make_display(console, ["core"], verbosity=2)
    display.show("core", events.LogTail("db", ("[bold]no[/bold] [/]",)))
    display.show("core", events.LogTail("silent", ()))
    display.show("core", events.Output("stdout", "[red]"))
    assert plain_lines(console) == [
        *("  last lines of db:", "  │ [bold]no[/bold] [/]"),
        *("  last lines of silent:", "  │ (no output)", "  │ [red]"),
    ]


@pytest.mark.parametrize(("verbosity", "shown"), [(0, []), (1, ["err"]), (2, ["err", "out"])])
def test_the_verbosity_selects_the_output(verbosity: int, shown: list[str]) -> None:
    console = pipe_console()
    display = make_display(console, ["core"], verbosity=verbosity)
    display.show("core", events.Output("stderr", "err"))
    display.show("core", events.Output("stdout", "out"))
    assert plain_lines(console) == [f"  │ {line}" for line in shown]


def test_without_a_terminal_each_wait_is_printed_once() -> None:
    console = pipe_console()
    display = make_display(console, ["core"])
    for reason in ("db is starting", "db is starting", "backend is starting"):
        display.show("core", events.Waiting(reason))
    assert [line.strip() for line in plain_lines(console)] == [
        "waiting: db is starting",
        "waiting: backend is starting",
    ]


def test_the_moving_lines_stop_at_a_pause() -> None:
    console = terminal_console()
    display = make_display(console)
    display.show("core", events.StepStarted("apply", "core"))
    display.pause()
    written = len(text(console))
    time.sleep(0.3)
    assert len(text(console)) == written
    display.show("core", events.StepFinished("apply", 1.0))
    assert "✓ apply" in plain_lines(console)[-1]


def test_events_of_many_hosts_in_parallel_do_not_block_the_display() -> None:
    """rich draws in a thread of its own, under a lock that a printing thread needs as well."""
    console = terminal_console()
    console.file = io.StringIO()
    display = make_display(console, [f"workers {number}" for number in range(8)])

    def busy(name: str) -> None:
        for _ in range(150):
            send_step(display, name)

    with display:
        threads = [
            threading.Thread(target=busy, args=(f"workers {number}",), daemon=True)
            for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads), "they wait for one another"
    done = [line for line in plain_lines(console) if "✓ check the host" in line]
    assert len(done) == 8 * 150
