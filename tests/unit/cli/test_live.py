"""What a person sees of deploys while they run."""

from __future__ import annotations

import io
import re
import threading
import time

import pytest
from rich.console import Console

from ktrdr.cli.live import DeployDisplay
from ktrdr.deployment.deploy import events
from ktrdr.deployment.deploy.comparison import Action, Comparison, ServiceChange
from ktrdr.deployment.hosts.history import DeployKind, HistoryEntry
from tests.unit.deployment.conftest import NOW

WIDTH = 80
NAMES = ["core", "workers B", "workers Basement"]
GOOD = HistoryEntry("r1", DeployKind.DEPLOY, "all", "sha-0000001", None, "c", "ada", NOW)


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=WIDTH, highlight=False)


def pipe() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=200, highlight=False)


def text(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def plain(console: Console) -> list[str]:
    """What was written without colours and movements of the cursor, line by line."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text(console)).replace("\r", "\n").splitlines()


def show(console: Console, names: list[str] = NAMES, verbosity: int = 0) -> DeployDisplay:
    return DeployDisplay(console, names, verbosity=verbosity)


def a_deploy(display: DeployDisplay, name: str, detail: str = "Docker 28.1.0") -> None:
    tell = display.of(name)
    tell(events.StepStarted("check the host", name))
    tell(events.Output("stderr", "db Pulling " + "x" * 200))
    tell(events.StepFinished("check the host", 1.25, detail))


def test_a_step_is_one_line_with_its_time_and_what_came_of_it() -> None:
    console = pipe()
    with show(console, ["core"]) as display:
        a_deploy(display, "core")
    assert plain(console) == ["✓ check the host          1.2 s  Docker 28.1.0"]


def test_lines_of_several_hosts_begin_with_their_names_and_are_aligned() -> None:
    console = pipe()
    with show(console) as display:
        display.of("")(events.StepStarted("read the secrets"))
        display.of("")(events.StepFinished("read the secrets", 0.5, "5 fields"))
        for name in NAMES:
            a_deploy(display, name)
            display.of(name)(events.StepSkipped("apply", "nothing to do"))
    lines = plain(console)
    assert len({line.index("✓") for line in lines if "✓" in line}) == 1
    assert len({line.index("nothing to do") for line in lines if "–" in line}) == 1
    assert [line[:16].strip() for line in lines if "✓" in line] == ["", *NAMES]


@pytest.mark.parametrize("names", [["core"], NAMES])
def test_no_line_is_wider_than_a_terminal_of_80_columns(names: list[str]) -> None:
    console = terminal()
    with show(console, names) as display:
        for name in names:
            a_deploy(display, name, "what came of it, in more words than fit " * 3)
            display.of(name)(events.Waiting("backend is starting " * 9))
            display.of(name)(events.StepSkipped("check the host", "--skip-validation " * 9))
            display.of(name)(events.Restoring(GOOD, "backend is not well"))
    assert max(map(len, plain(console))) <= WIDTH
    assert any(line.endswith("…") for line in plain(console)), "what is left out is told"


def test_the_moving_lines_fit_too_however_many_hosts_are_at_work() -> None:
    console = terminal()
    with show(console) as display:
        for name in NAMES:
            display.of(name)(events.StepStarted("wait until healthy", name))
            display.of(name)(events.Waiting("backtest-worker-1 is not registered yet " * 5))
        time.sleep(0.3)
        assert len(display._moving().renderables) == 3
    lines = [line for line in plain(console) if line.strip()]
    assert lines
    assert max(map(len, lines)) <= WIDTH
    for line in lines:
        assert re.match(r"(core|workers B|workers Basement) +\S wait until healthy +\d", line), line
        assert "s  backtest-worker-1 is not" in line


def test_it_is_legible_without_colour() -> None:
    console = pipe()
    tell = show(console, ["core"]).of("core")
    for event in (
        events.StepFailed("apply", 2.0),
        events.StepSkipped("check the host", "--skip-validation"),
        events.Restoring(GOOD, "backend is not well"),
        events.Warned("its tag was moved"),
    ):
        tell(event)
    assert "\x1b" not in text(console)
    assert plain(console) == [
        "✗ apply                   2.0 s",
        "– check the host                 --skip-validation",
        "  backend is not well",
        "↶ go back                        to sha-0000001, which ran before",
        "  warning: its tag was moved",
    ]


def test_what_changes_and_why_stands_below_the_step() -> None:
    console = pipe()
    changes = (
        ServiceChange("db", Action.UNCHANGED),
        ServiceChange("backend", Action.RECREATED, "a → b"),
    )
    comparison = Comparison(changes, ("+ monitoring/x.yml",), before={}, destructive_effects=())
    show(console, ["core"]).of("core")(events.Compared(comparison))
    assert plain(console) == [
        f"    backend: {Action.RECREATED.planned_label} (a → b)",
        "    + monitoring/x.yml",
    ]


def test_markup_in_what_hosts_write_is_shown_as_it_is() -> None:
    console = pipe()
    tell = show(console, ["core"], verbosity=2).of("core")
    tell(events.LogTail("db", ("[bold]no[/bold] [/]",)))
    tell(events.LogTail("silent", ()))
    tell(events.Output("stdout", "[red]"))
    assert plain(console) == [
        *("  last lines of db:", "  │ [bold]no[/bold] [/]"),
        *("  last lines of silent:", "  │ (it wrote nothing)", "  │ [red]"),
    ]


@pytest.mark.parametrize(("verbosity", "shown"), [(0, []), (1, ["err"]), (2, ["err", "out"])])
def test_how_much_of_the_output_is_shown_is_chosen(verbosity: int, shown: list[str]) -> None:
    console = pipe()
    tell = show(console, ["core"], verbosity=verbosity).of("core")
    tell(events.Output("stderr", "err"))
    tell(events.Output("stdout", "out"))
    assert plain(console) == [f"  │ {line}" for line in shown]


def test_without_a_terminal_what_is_waited_for_is_told_once() -> None:
    console = pipe()
    tell = show(console, ["core"]).of("core")
    for reason in ("db is starting", "db is starting", "backend is starting"):
        tell(events.Waiting(reason))
    assert [line.strip() for line in plain(console)] == [
        "waiting: db is starting",
        "waiting: backend is starting",
    ]


def test_nothing_moves_any_more_after_a_pause() -> None:
    console = terminal()
    display = show(console)
    display.of("core")(events.StepStarted("apply", "core"))
    display.pause()
    written = len(text(console))
    time.sleep(0.3)
    assert len(text(console)) == written
    display.of("core")(events.StepFinished("apply", 1.0))
    assert "✓ apply" in plain(console)[-1]


def test_many_hosts_that_tell_at_once_do_not_stop_the_display() -> None:
    """rich draws in a thread of its own, under a lock that whoever prints needs as well."""
    console = terminal()
    console.file = io.StringIO()
    display = show(console, [f"workers {number}" for number in range(8)])

    def busy(name: str) -> None:
        for _ in range(150):
            a_deploy(display, name)

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
    done = [line for line in plain(console) if "✓ check the host" in line]
    assert len(done) == 8 * 150
