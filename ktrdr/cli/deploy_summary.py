"""The end of a deploy, for people: what runs where, and what has changed."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ktrdr.deployment.commands.script import render_for_display
from ktrdr.deployment.compare import Action
from ktrdr.deployment.plan import Plan
from ktrdr.deployment.result import DeployResult, ServiceState

# More names than these stand in the display of the steps alone.
_NAMED: Final = 3
_STYLES: Final = {Action.UNCHANGED: "dim", Action.REMOVED: "yellow"}


def show_result(console: Console, result: DeployResult) -> None:
    """Prints what runs now, and what has changed."""
    plan = result.plan
    console.print(f"\n[bold]{plan.site.name}[/] on {plan.site.host}", soft_wrap=True)
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    for title in ("  service", "version", "state", "this deploy"):
        table.add_column(title, overflow="fold")
    for state in result.services:
        action = state.change.action
        style = _STYLES.get(action, "green")
        table.add_row(
            f"  {state.change.service}", _version(state), _state(state), f"[{style}]{action}[/]"
        )
    console.print(table)
    if result.files:
        console.print(f"  {_files(result)}", style="dim", soft_wrap=True)
    for line in (verdict(result), usage(result)):
        console.print(line, soft_wrap=True)


def verdict(result: DeployResult) -> str:
    """One sentence: what has changed, or that nothing has."""
    release = result.plan.release
    if not result.changed:
        return f"Nothing changed, nothing restarted: {release.tag} runs already."
    return f"{release.tag} runs, with the configuration of {release.source}."


def usage(result: DeployResult) -> str:
    """What it has cost."""
    one = "" if result.connections == 1 else "s"
    return (
        f"{result.duration_s:.1f} s, {result.connections} SSH connection{one}, "
        f"{result.scripts} scripts"
    )


def show_plan(console: Console, plan: Plan, *, whole: bool) -> None:
    """Prints the scripts that a deploy would run, with the names of secrets for their values."""
    release = plan.release
    console.print(
        f"# {plan.site.name} on {plan.site.host}: {release.tag}, "
        f"with the configuration of {release.source}",
        soft_wrap=True,
    )
    for number, step in enumerate(plan.steps, start=1):
        console.print(
            f"\n# {number}. {step.title}: ssh {step.host} sh -s (at most {step.timeout_s:g} s)",
            soft_wrap=True,
        )
        script = render_for_display(step.script, whole=whole)
        console.print(script.rstrip("\n"), soft_wrap=True, markup=False)


def _files(result: DeployResult) -> str:
    """Which configuration files have changed: by name, unless they are many."""
    names = [file.partition(" ")[2] for file in result.files]
    shown = names if len(names) <= _NAMED else [f"{len(names)} files"]
    return escape(f"configuration changed: {', '.join(shown)}")


def _version(state: ServiceState) -> str:
    if state.container is None:
        return ""
    return escape(state.container.image.partition("@")[0].rpartition(":")[2])


def _state(state: ServiceState) -> str:
    if state.container is None:
        return "gone"
    return state.container.health or state.container.status
