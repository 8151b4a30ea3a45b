"""Summary of a deploy for people."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ktrdr.deployment.deploy.comparison import Action
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.deploy.result import DeployResult, HostResult, ServiceState
from ktrdr.deployment.hosts.history import DeployOutcome
from ktrdr.deployment.hosts.images import parse_image_name
from ktrdr.deployment.scripts.script import render_for_display
from ktrdr.errors import HostSkipped, Interrupted, KtrdrError, NotStarted, RolledBack

# More file names than these are only counted.
_LISTED_FILES: Final = 3
_STYLES: Final = {Action.UNCHANGED: "dim", Action.REMOVED: "yellow"}


def show_result(console: Console, result: DeployResult) -> None:
    """Print what runs now, and what changed."""
    if not result.hosts:
        console.print("Nothing was changed: no node is behind.")
        return
    if len(result.hosts) == 1:
        _show_services(console, result.hosts[0])
    else:
        _show_hosts(console, result)
    console.print(verdict(result), soft_wrap=True, markup=False)
    console.print(usage(result), soft_wrap=True, markup=False, style="dim")


def verdict(result: DeployResult) -> str:
    """Return one sentence that says what changed, or that nothing did."""
    hosts = result.hosts
    if not result.is_good and len(hosts) == 1:
        return _describe_failure(hosts[0])
    # After a rollback, hosts may run different tags.
    tags = " and ".join(dict.fromkeys(host.plan.release.tag for host in hosts))
    runs = "runs" if tags == hosts[0].plan.release.tag else "run"
    if not result.is_good:
        return f"{tags} {runs} on {len(hosts) - len(result.failed)} of {len(hosts)} hosts."
    if not result.changed:
        return f"Nothing was changed or restarted: {tags} {runs} already."
    if any(host.outcome is DeployOutcome.DETACHED for host in hosts):
        return f"The hosts finish the deploy of {tags} by themselves: see `ktrdr deploy watch`."
    sources = " and ".join(dict.fromkeys(host.plan.release.source for host in hosts))
    return f"{tags} {runs}, with the configuration of {sources}."


def usage(result: DeployResult) -> str:
    """Return the deploy's duration, connections and id."""
    one = "" if result.connections == 1 else "s"
    return (
        f"{result.duration_s:.1f} s, {result.connections} SSH connection{one}, "
        f"{result.scripts} scripts; release {result.id}"
    )


def failure(result: DeployResult) -> KtrdrError:
    """Return the error that the command ends with: the first, naming all failed hosts."""
    error = result.failed[0].error
    assert error is not None  # noqa: S101  # it is among the failed
    others = (NotStarted, HostSkipped, RolledBack)
    own = [each.plan.host.name for each in result.failed if not isinstance(each.error, others)]
    if len(own or result.skipped) == 1:
        return _rolled_back_error(result.failed[0]) or error
    names = f"{len(own)} hosts failed ({', '.join(own)}), the first with: "
    names = names if own else f"{len(result.skipped)} hosts were skipped; "
    return type(error)(names + error.message, hint=error.hint)


def _rolled_back_error(host: HostResult) -> KtrdrError | None:
    """Return the error of a host that rolled back, with a hint that fits."""
    error, restored = host.error, host.restored
    if error is None or restored is None or not restored.outcome.is_good:
        return None
    hint = f"{restored.tag} runs again."
    if not isinstance(error, Interrupted):
        hint += " See the last log lines above, fix the cause, then deploy."
    return type(error)(error.message, hint=hint)


def show_plan(console: Console, plan: Plan, *, whole: bool) -> None:
    """Print the steps of a plan as one script; secrets appear by name.

    Args:
        console: The console.
        plan: The plan.
        whole: Whether the script contains the files of the release.
    """
    title = f"{plan.host.name} on {plan.host.address}: {plan.release.tag}"
    lines = [f"# {title}, with the configuration of {plan.release.source}", "#"]
    if whole:
        names = dict.fromkeys(name for step in plan.steps for name in step.script.secrets)
        lines.append("# To deploy without ktrdr, pass all of this to `sh` on the host, with these")
        lines.append(f"# variables exported: {', '.join(names)}")
    else:
        lines.append("# To deploy without ktrdr, print this with -v, which adds the files.")
    for number, step in enumerate(plan.steps, start=1):
        script = render_for_display(step.script, whole=whole).rstrip("\n")
        heading = f"# Step {number} of {len(plan.steps)}: {step.title}"
        lines += ["", f"{heading} (at most {step.timeout_s:g} s)", script]
    console.out("\n".join(lines), highlight=False)


def _show_services(console: Console, host: HostResult) -> None:
    console.print(f"\n[bold]{host.plan.host.name}[/] on {host.plan.host.address}", soft_wrap=True)
    if not host.services:
        return
    table = _table("  service", "version", "state", "this deploy")
    for state in host.services:
        action = state.change.action
        style = _STYLES.get(action, "green")
        table.add_row(
            f"  {state.change.service}",
            _format_version(state),
            _format_state(state),
            f"[{style}]{action}[/]",
        )
    console.print(table)
    if host.files:
        console.print(f"  {_format_files(host)}", style="dim", soft_wrap=True)


def _show_hosts(console: Console, result: DeployResult) -> None:
    console.print()
    table = _table("host", "version", "services", "this deploy", "took")
    for host in result.hosts:
        table.add_row(
            host.plan.host.name,
            _running_version(host),
            _count_healthy(host),
            _format_outcome(host),
            _format_duration(host),
        )
    console.print(table)
    for host in result.failed:
        assert host.error is not None  # noqa: S101  # it is among the failed
        reason = f"{host.plan.host.name}: {host.error.message}"
        console.print(f"  [red]✗[/] {escape(reason)}", soft_wrap=True)


def _table(*titles: str) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False, header_style="dim")
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _running_version(host: HostResult) -> str:
    """Return the version that runs now, as far as this deploy knows."""
    if host.is_good:
        return escape(host.plan.release.tag)
    if host.restored and host.restored.outcome.is_good:
        return escape(host.restored.tag)
    return "as before" if host.outcome is None else "?"


def _count_healthy(host: HostResult) -> str:
    there = [state for state in host.services if state.container]
    return f"{len(there)} healthy" if there else ""


def _format_outcome(host: HostResult) -> str:
    if host.is_skipped:
        return "[yellow]skipped[/]"
    if host.outcome is None:
        return "[dim]not started[/]"
    if isinstance(host.error, RolledBack):
        return "[yellow]rolled back[/]"
    if host.restored:
        went = "rolled back" if host.restored.outcome.is_good else "rollback failed"
        return f"[red]failed[/], {went}"
    if not host.is_good:
        return f"[red]{host.outcome}[/]"
    if host.outcome in (DeployOutcome.UNCHANGED, DeployOutcome.DETACHED):
        return f"[dim]{host.outcome}[/]"
    changed = sum(state.change.action is not Action.UNCHANGED for state in host.services)
    return f"[green]{changed} changed[/]" if changed else "[green]configuration[/]"


def _format_duration(host: HostResult) -> str:
    return f"{host.duration_s:.1f} s" if host.duration_s else ""


def _describe_failure(host: HostResult) -> str:
    """Return what runs on the only host after a failed deploy."""
    tag, restored = host.plan.release.tag, host.restored
    if host.outcome is None:
        return "Nothing was changed."
    ended = "was interrupted" if host.outcome is DeployOutcome.INTERRUPTED else "failed"
    if host.is_left:
        return f"{tag} {ended}; the host ends the deploy by itself."
    if restored is None:
        return f"{tag} {ended}; its changes stay in place."
    if restored.outcome.is_good:
        return f"{tag} {ended}; {restored.tag} runs again."
    return f"{tag} failed, and so did the rollback to {restored.tag}."


def _format_files(host: HostResult) -> str:
    """Return the names of the changed configuration files, or their number."""
    names = [file.partition(" ")[2] for file in host.files]
    shown = names if len(names) <= _LISTED_FILES else [f"{len(names)} files"]
    return escape(f"configuration changed: {', '.join(shown)}")


def _format_version(state: ServiceState) -> str:
    if state.container is None:
        return ""
    return escape(parse_image_name(state.container.image).version)


def _format_state(state: ServiceState) -> str:
    if state.container is None:
        return "removed"
    return state.container.health or state.container.status
