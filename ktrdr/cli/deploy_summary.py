"""The end of a deploy, for people: what runs where, and what has changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ktrdr.deployment.deploy.comparison import Action
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.deploy.result import DeployResult, HostResult, ServiceState
from ktrdr.deployment.hosts.history import Outcome
from ktrdr.deployment.scripts.script import render_for_display
from ktrdr.errors import KtrdrError, NotBegun

# More names than these stand in the display of the steps alone.
_NAMED: Final = 3
_STYLES: Final = {Action.UNCHANGED: "dim", Action.REMOVED: "yellow"}


def show_result(console: Console, result: DeployResult) -> None:
    """Prints what runs now, and what has changed."""
    if len(result.hosts) == 1:
        _show_services(console, result.hosts[0])
    else:
        _show_hosts(console, result)
    console.print(verdict(result), soft_wrap=True, markup=False)
    console.print(usage(result), soft_wrap=True, markup=False, style="dim")


def verdict(result: DeployResult) -> str:
    """One sentence: what has changed, or that nothing has."""
    hosts = result.hosts
    if not result.is_good and len(hosts) == 1:
        return _instead(hosts[0])
    # After a rollback each host may run another one.
    tags = " and ".join(dict.fromkeys(host.plan.release.tag for host in hosts))
    runs = "runs" if tags == hosts[0].plan.release.tag else "run"
    if not result.is_good:
        return f"{tags} {runs} on {len(hosts) - len(result.failed)} of {len(hosts)} hosts."
    if not result.changed:
        return f"Nothing changed, nothing restarted: {tags} {runs} already."
    sources = " and ".join(dict.fromkeys(host.plan.release.source for host in hosts))
    return f"{tags} {runs}, with the configuration of {sources}."


def usage(result: DeployResult) -> str:
    """What it has cost, and the name to come back to it by."""
    one = "" if result.connections == 1 else "s"
    return (
        f"{result.duration_s:.1f} s, {result.connections} SSH connection{one}, "
        f"{result.scripts} scripts; release {result.id}"
    )


def failure(result: DeployResult) -> KtrdrError:
    """The error that the command ends with: the first, naming all hosts that have one."""
    error = result.failed[0].error
    assert error is not None  # noqa: S101  # it is among the failed
    own = [host.plan.site.name for host in result.failed if not isinstance(host.error, NotBegun)]
    if len(own) == 1:
        return _gone_back(result.failed[0]) or error
    names = f"{len(own)} hosts failed ({', '.join(own)}), the first with: "
    return type(error)(names + error.message, hint=error.hint)


def _gone_back(host: HostResult) -> KtrdrError | None:
    """The error of a host that is back at its last good release, with a hint that fits."""
    error, restored = host.error, host.restored
    if error is None or restored is None or not restored.outcome.is_good:
        return None
    hint = (
        f"{restored.tag} runs again; the last log lines are above: correct the cause, then deploy."
    )
    return type(error)(error.message, hint=hint)


def show_plan(console: Console, plan: Plan, *, whole: bool) -> None:
    """Print the steps of a deploy as one script, with the names of secrets for their values.

    Args:
        console: The console.
        plan: The deploy to one host.
        whole: Whether the files of the release are a part of the script.
    """
    release = plan.release
    title = f"{plan.site.name} on {plan.site.host}: {release.tag}"
    lines = [f"# {title}, with the configuration of {release.source}", "#"]
    lines += [f"# {line}" for line in _how_to_run(plan, whole=whole)]
    for number, step in enumerate(plan.steps, start=1):
        timeout = f"at most {step.timeout_s:g} s"
        lines += [
            "",
            f"# Step {number} of {len(plan.steps)}: {step.title} ({timeout})",
            render_for_display(step.script, whole=whole).rstrip("\n"),
        ]
    console.out("\n".join(lines), highlight=False)


def _how_to_run(plan: Plan, *, whole: bool) -> Iterator[str]:
    """Yield lines for an operator who has to do without ktrdr."""
    names = dict.fromkeys(name for step in plan.steps for name in step.script.secrets)
    if whole:
        yield "To deploy without ktrdr, give all of this to `sh` on the host. These variables must"
        yield f"be exported there: {', '.join(names)}"
    else:
        yield "To deploy without ktrdr, print this with -v: then it has the release's files in it."


def _show_services(console: Console, host: HostResult) -> None:
    console.print(f"\n[bold]{host.plan.site.name}[/] on {host.plan.site.host}", soft_wrap=True)
    if not host.services:
        return
    table = _table("  service", "version", "state", "this deploy")
    for state in host.services:
        action = state.change.action
        style = _STYLES.get(action, "green")
        table.add_row(
            f"  {state.change.service}", _version(state), _state(state), f"[{style}]{action}[/]"
        )
    console.print(table)
    if host.files:
        console.print(f"  {_files(host)}", style="dim", soft_wrap=True)


def _show_hosts(console: Console, result: DeployResult) -> None:
    console.print()
    table = _table("host", "version", "services", "this deploy", "took")
    for host in result.hosts:
        table.add_row(host.plan.site.name, _runs(host), _healthy(host), _became(host), _took(host))
    console.print(table)
    for host in result.failed:
        assert host.error is not None  # noqa: S101  # it is among the failed
        reason = f"{host.plan.site.name}: {host.error.message}"
        console.print(f"  [red]✗[/] {escape(reason)}", soft_wrap=True)


def _table(*titles: str) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False, header_style="dim")
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _runs(host: HostResult) -> str:
    """The version that runs there now, as far as this deploy knows."""
    if host.is_good:
        return escape(host.plan.release.tag)
    if host.restored and host.restored.outcome.is_good:
        return escape(host.restored.tag)
    return "as before" if host.outcome is None else "?"


def _healthy(host: HostResult) -> str:
    there = [state for state in host.services if state.container]
    return f"{len(there)} healthy" if there else ""


def _became(host: HostResult) -> str:
    if host.outcome is None:
        return "[dim]not begun[/]"
    if host.restored:
        went = "went back" if host.restored.outcome.is_good else "could not go back"
        return f"[red]failed[/], {went}"
    if not host.is_good:
        return f"[red]{host.outcome}[/]"
    if host.outcome is Outcome.UNCHANGED:
        return "[dim]unchanged[/]"
    changed = sum(state.change.action is not Action.UNCHANGED for state in host.services)
    return f"[green]{changed} changed[/]" if changed else "[green]configuration[/]"


def _took(host: HostResult) -> str:
    return f"{host.duration_s:.1f} s" if host.duration_s else ""


def _instead(host: HostResult) -> str:
    """What runs on the only host, now that the deploy has failed there."""
    tag, restored = host.plan.release.tag, host.restored
    if host.outcome is None:
        return "Nothing was changed."
    if restored is None:
        return f"{tag} was not brought to its end; what was changed stays as it is."
    if restored.outcome.is_good:
        return f"{tag} failed; {restored.tag} runs again."
    return f"{tag} failed, and so did the way back to {restored.tag}."


def _files(host: HostResult) -> str:
    """Which configuration files have changed: by name, unless they are many."""
    names = [file.partition(" ")[2] for file in host.files]
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
