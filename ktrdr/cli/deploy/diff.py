"""`ktrdr deploy diff`: show what a deploy would change on the hosts."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.text import Text

from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.deploy.operator import new_deploy_id
from ktrdr.cli.deploy.options import profile_option, query_options, scale_option
from ktrdr.cli.hosts import read_inventory, ssh_program
from ktrdr.cli.render import console, count_of, spinner, write_json, write_note
from ktrdr.deployment.clock import Clock
from ktrdr.deployment.deploy.comparison import Action
from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.deploy.plan import Plan, make_plan
from ktrdr.deployment.diff.changes import FileChange, HostDiff
from ktrdr.deployment.diff.query import Differ
from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.homelab.hosts import select_hosts
from ktrdr.deployment.homelab.secret_source import make_source
from ktrdr.deployment.releases.checkout import Checkout, CommitRange
from ktrdr.deployment.releases.release import validate_tag
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.secret import Scrubber, Secret

# Exit code if a deploy would change something; no error has this code.
WOULD_CHANGE: Final = 10
# Raised when a key disappears or changes its meaning; new keys may come at any time.
SCHEMA: Final = 1
# Entries of each list that are shown without --full.
_MAX_LINES: Final = 12
_MAX_COMMITS: Final = 8
_SIGNS: Final = {
    Action.CREATED: ("+", "green"),
    Action.RECREATED: ("~", "yellow"),
    Action.STARTED: ("~", "yellow"),
    Action.REMOVED: ("-", "red"),
}
_LINE_STYLES: Final = {"+": "green", "-": "red", "@": "cyan"}
_FILE_STYLES: Final = {"+": "green", "-": "red", "~": "yellow"}


@click.command(epilog=f"{EXIT_CODES.rstrip()}\n {WOULD_CHANGE} a deploy would change something\n")
@query_options
@scale_option
@profile_option
@click.option(
    "--secrets", "with_secrets", is_flag=True, help="Also compare secrets with the vault."
)
@click.option("--full", is_flag=True, help="Show every line of every file, and every commit.")
def diff(hosts: tuple[str, ...], with_secrets: bool, full: bool, **options: Any) -> None:
    """Show what a deploy would change on the hosts: images, settings, files, containers.

    Pulls nothing and writes to no disk. Needs no secrets: it assumes that the containers' secrets
    are current. Secrets do not leave their host.
    """
    parsed = DeployOptions(**options)
    checkout = Checkout.find(Path.cwd())
    inventory = read_inventory(parsed.inventory, checkout=checkout, settings=parsed.settings)
    selected = select_hosts(inventory, hosts)
    tag = validate_tag(parsed.tag) if parsed.tag else None
    if tag is None:
        head = checkout.head()
        for warning in filter(None, (*head.warnings(), head.note())):
            write_note(f"note: {warning}")
    product, deploy_id = Homelab(inventory), new_deploy_id()
    plans = {
        host: make_plan(product, host, checkout.load_release(host.stack, tag), deploy_id, parsed)
        for host in selected
    }
    with spinner("comparing …"):
        scrubber, values = Scrubber(), None
        if with_secrets:
            values = _read_secret_values(product, list(plans.values()), scrubber)
        with SshTransport(ssh_program(inventory), scrubber=scrubber) as transport:
            differ = Differ(checkout, transport, secrets.token_hex(8), values)
            diffs = differ.diff_hosts(plans)
    if parsed.as_json:
        write_json(to_json(diffs, with_secrets=with_secrets))
    else:
        show(console(), diffs, full=full)
    if errors := [each.error.exit_code for each in diffs if each.error]:
        raise SystemExit(min(errors))
    if any(each.has_changes for each in diffs):
        raise SystemExit(WOULD_CHANGE)


def _read_secret_values(
    product: Homelab, plans: Sequence[Plan], scrubber: Scrubber
) -> Mapping[str, Mapping[str, Secret]]:
    """Return the secret variables of each host by its address, with one call to the vault."""
    fields = product.read_secrets(make_source(product.inventory.secrets), plans)
    now = Clock().now()
    values = {plan.host.address: product.secret_values(fields, plan, now=now) for plan in plans}
    scrubber.learn(*product.secrets_to_scrub(fields, values.values(), plans))
    return values


def show(console: Console, diffs: Sequence[HostDiff], *, full: bool) -> None:
    """Print each host: containers with their images, commits, settings, files."""
    listed: set[tuple[str, str]] = set()
    for number, diff in enumerate(diffs):
        if number:
            console.print()
        host = diff.host
        _print(console, Text.assemble((host.name, "bold"), (f"  {host.address}", "dim")))
        if diff.error:
            _print(console, Text.assemble(("  ✗ ", "red"), diff.error.message))
            if diff.error.hint:
                _print(console, Text(f"    → {diff.error.hint}", style="dim"))
            continue
        for line in _lines(diff, listed, full=full):
            _print(console, line, truncate=not full)
    console.print()
    for note in dict.fromkeys(note for diff in diffs for note in diff.notes):
        _print(console, Text(f"note: {note}", style="dim"))
    failed = [diff.host.name for diff in diffs if diff.error]
    changed = [diff.host.name for diff in diffs if diff.has_changes]
    verdict = f"A deploy would change {', '.join(changed)}" if changed else "Nothing would change"
    not_compared = f"; not compared: {', '.join(failed)}" if failed else ""
    console.print(f"{verdict}{not_compared}.", soft_wrap=True)


def to_json(diffs: Sequence[HostDiff], *, with_secrets: bool) -> dict[str, Any]:
    """Return the document that ``--json`` prints."""
    return {
        "schema": SCHEMA,
        "ok": not any(diff.error for diff in diffs),
        "changed": any(diff.has_changes for diff in diffs),
        "secrets": "from the vault" if with_secrets else "taken for unchanged",
        "hosts": [_host_to_json(diff) for diff in diffs],
    }


def _lines(diff: HostDiff, listed: set[tuple[str, str]], *, full: bool) -> Iterator[Text]:
    """Yield the lines of a host, without the commits that are listed for another host already."""
    if not diff.has_changes:
        yield Text.assemble(("  ✓ ", "green"), f"matches {diff.plan.release.tag}")
    if not full and diff.services and all(c.action is Action.CREATED for c in diff.services):
        names = ", ".join(change.service for change in diff.services)
        yield Text.assemble(("  + ", "green"), f"nothing is deployed yet; to be created: {names}")
        more = f"{count_of(diff.settings, 'setting')}, {count_of(diff.files, 'file')}"
        yield Text(f"    with {more}; --full shows them", style="dim")
        return
    yield from _container_lines(diff)
    for tag, commits in (diff.commits or {}).items():
        ends = (tag, diff.plan.release.tag)
        if ends not in listed:
            yield from _commit_lines(*ends, commits, full=full)
        listed.add(ends)
    for setting in diff.settings:
        old, new = setting.old or "(none)", setting.new or "(none)"
        yield Text.assemble("  setting ", (setting.name, "bold"), f"  {old} → {new}")
    for file in diff.files:
        yield from _file_lines(file, full=full)
    if diff.is_unfinished:
        text = "an earlier deploy did not finish: the next one repeats all its steps"
        yield Text.assemble(("  ! ", "yellow"), text)
    for effect in diff.destructive_effects:
        yield Text.assemble(("  attention: ", "yellow"), effect)


def _container_lines(diff: HostDiff) -> Iterator[Text]:
    width = max((len(change.service) for change in diff.services), default=0)
    for change in diff.services:
        if change.action is not Action.UNCHANGED:
            sign, style = _SIGNS[change.action]
            text = f"{change.service:<{width}}  {change.action.planned_label}"
            yield Text.assemble((f"  {sign} ", style), f"{text} ({change.reason})")
    unchanged = [c.service for c in diff.services if c.action is Action.UNCHANGED]
    if unchanged and diff.has_changes:
        yield Text(f"    unchanged: {', '.join(unchanged)}", style="dim")


def _commit_lines(old: str, new: str, commits: CommitRange | None, *, full: bool) -> Iterator[Text]:
    if commits is None:
        yield Text(f"  commits from {old} to {new}: not known in this checkout", style="dim")
        return
    for titles, verb in ((commits.added, "added"), (commits.removed, "removed")):
        if not titles:
            continue
        yield Text(f"  {old} → {new}: {count_of(titles, 'commit')} {verb}")
        shown = titles if full else titles[:_MAX_COMMITS]
        for line in shown:
            commit, _, title = line.partition(" ")
            yield Text.assemble("    ", (commit, "yellow"), f" {title}")
        if len(shown) < len(titles):
            yield Text(f"    … {len(titles) - len(shown)} more; --full shows them", style="dim")


def _file_lines(file: FileChange, *, full: bool) -> Iterator[Text]:
    yield Text.assemble(
        "  file ", (file.marker, _FILE_STYLES[file.marker]), " ", (file.path, "bold")
    )
    lines = file.unified_diff()
    shown = lines if full else lines[:_MAX_LINES]
    for line in shown:
        yield Text(f"    {line}", style=_LINE_STYLES.get(line[:1], ""))
    if len(shown) < len(lines):
        yield Text(f"    … {len(lines) - len(shown)} more lines; --full shows them", style="dim")


def _print(console: Console, line: Text, *, truncate: bool = False) -> None:
    """Print a line, on a terminal no more of it than fits if that is requested."""
    if truncate and console.is_terminal:
        line.truncate(console.width, overflow="ellipsis")
    console.print(line, soft_wrap=True)


def _host_to_json(diff: HostDiff) -> dict[str, Any]:
    plan, error = diff.plan, diff.error
    return {
        "target": diff.host.name,
        "host": diff.host.address,
        "tag": plan.release.tag,
        "commit": plan.release.commit,
        "error": error and {"kind": error.kind, "message": error.message, "hint": error.hint},
        "changed": diff.has_changes,
        "services": [
            {"name": change.service, "action": change.action.value, "reason": change.reason or None}
            for change in diff.services
        ],
        "images": [
            {"old": image.old, "new": image.new, "services": list(image.services)}
            for image in diff.images
        ],
        "commits": {
            tag: commits and {"added": list(commits.added), "taken_back": list(commits.removed)}
            for tag, commits in (diff.commits or {}).items()
        },
        "settings": [
            {"name": setting.name, "old": setting.old, "new": setting.new}
            for setting in diff.settings
        ],
        "files": [
            {"path": file.path, "change": file.marker, "diff": list(file.unified_diff())}
            for file in diff.files
        ],
        "unfinished": diff.is_unfinished,
        "losses": list(diff.destructive_effects),
        "notes": list(diff.notes),
    }
