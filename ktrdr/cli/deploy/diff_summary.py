"""What a deploy would change, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from ktrdr.deployment.deploy.comparison import Action
from ktrdr.deployment.diff.changes import Difference, FileChange
from ktrdr.deployment.releases.checkout import CommitRange

# Raised when a key disappears or changes its meaning; new keys may come at any time.
SCHEMA: Final = 1
# So much of each list is shown without --full.
_LINES: Final = 12
_COMMITS: Final = 8
_SIGNS: Final = {
    Action.CREATED: ("+", "green"),
    Action.RECREATED: ("~", "yellow"),
    Action.STARTED: ("~", "yellow"),
    Action.REMOVED: ("-", "red"),
}
_LINE_STYLES: Final = {"+": "green", "-": "red", "@": "cyan"}
_FILE_STYLES: Final = {"+": "green", "-": "red", "~": "yellow"}


def show(console: Console, found: Sequence[Difference], *, full: bool) -> None:
    """Prints each host: containers with their images, commits, settings, files."""
    listed: set[tuple[str, str]] = set()
    for number, difference in enumerate(found):
        if number:
            console.print()
        place = difference.place
        _print(console, Text.assemble((place.name, "bold"), (f"  {place.host}", "dim")))
        if difference.error:
            _print(console, Text.assemble(("  ✗ ", "red"), difference.error.message))
            if difference.error.hint:
                _print(console, Text(f"    → {difference.error.hint}", style="dim"))
            continue
        for line in _lines(difference, listed, full=full):
            _print(console, line, cut=not full)
    console.print()
    for note in dict.fromkeys(note for each in found for note in each.notes):
        _print(console, Text(f"note: {note}", style="dim"))
    console.print(verdict(found), soft_wrap=True)


def verdict(found: Sequence[Difference]) -> str:
    """One sentence: whether anything would change, and what became of the others."""
    failed = [each.place.name for each in found if each.error]
    changed = [each.place.name for each in found if each.changed]
    lost = f"; not compared: {', '.join(failed)}" if failed else ""
    if changed:
        return f"A deploy would change {', '.join(changed)}{lost}."
    return f"Nothing would change{lost}."


def to_json(found: Sequence[Difference], *, asked: bool) -> dict[str, Any]:
    """The document that ``--json`` prints."""
    return {
        "schema": SCHEMA,
        "ok": not any(each.error for each in found),
        "changed": any(each.changed for each in found),
        "secrets": "from the vault" if asked else "taken for unchanged",
        "hosts": [_host(each) for each in found],
    }


def _lines(difference: Difference, listed: set[tuple[str, str]], *, full: bool) -> Iterator[Text]:
    """A host's lines; commits that were listed for another host are not listed again."""
    if not difference.changed:
        yield Text.assemble(("  ✓ ", "green"), f"as it is to be: {difference.plan.release.tag}")
    yield from _containers(difference)
    for tag, between in (difference.commits or {}).items():
        ends = (tag, difference.plan.release.tag)
        if ends not in listed:
            yield from _commits(*ends, between, full=full)
        listed.add(ends)
    for setting in difference.settings:
        old, new = setting.old or "(none)", setting.new or "(none)"
        yield Text.assemble("  setting ", (setting.name, "bold"), f"  {old} → {new}")
    for file in difference.files:
        yield from _file(file, full=full)
    if difference.unfinished:
        text = "an earlier deploy stopped in the middle: the next goes through all of it again"
        yield Text.assemble(("  ! ", "yellow"), text)
    for loss in difference.losses:
        yield Text.assemble(("  ! ", "yellow"), loss)


def _containers(difference: Difference) -> Iterator[Text]:
    width = max((len(change.service) for change in difference.services), default=0)
    for change in difference.services:
        if change.action is not Action.UNCHANGED:
            sign, style = _SIGNS[change.action]
            text = f"{change.service:<{width}}  {change.action.intention}"
            yield Text.assemble((f"  {sign} ", style), f"{text} ({change.reason})")
    same = [c.service for c in difference.services if c.action is Action.UNCHANGED]
    if same and difference.changed:
        yield Text(f"    unchanged: {', '.join(same)}", style="dim")


def _commits(tag: str, new: str, between: CommitRange | None, *, full: bool) -> Iterator[Text]:
    if between is None:
        yield Text(f"  commits from {tag} to {new}: not known in this checkout", style="dim")
        return
    for commits, sense in ((between.added, "more"), (between.removed, "fewer")):
        if not commits:
            continue
        count = f"1 commit {sense}" if len(commits) == 1 else f"{len(commits)} commits {sense}"
        yield Text(f"  {tag} → {new}: {count}")
        shown = commits if full else commits[:_COMMITS]
        for commit in shown:
            name, _, title = commit.partition(" ")
            yield Text.assemble("    ", (name, "yellow"), f" {title}")
        if len(shown) < len(commits):
            yield Text(f"    … {len(commits) - len(shown)} more; --full shows them", style="dim")


def _file(file: FileChange, *, full: bool) -> Iterator[Text]:
    yield Text.assemble("  file ", (file.sign, _FILE_STYLES[file.sign]), " ", (file.path, "bold"))
    lines = file.diff()
    shown = lines if full else lines[:_LINES]
    for line in shown:
        yield Text(f"    {line}", style=_LINE_STYLES.get(line[:1], ""))
    if len(shown) < len(lines):
        yield Text(f"    … {len(lines) - len(shown)} more lines; --full shows them", style="dim")


def _print(console: Console, line: Text, *, cut: bool = False) -> None:
    """Prints a line as it is, or as much of it as a terminal has room for."""
    if cut and console.is_terminal:
        line.truncate(console.width, overflow="ellipsis")
    console.print(line, soft_wrap=True)


def _host(difference: Difference) -> dict[str, Any]:
    plan, error = difference.plan, difference.error
    return {
        "target": difference.place.name,
        "host": difference.place.host,
        "tag": plan.release.tag,
        "commit": plan.release.commit,
        "error": error and {"kind": error.kind, "message": error.message, "hint": error.hint},
        "changed": difference.changed,
        "services": [
            {"name": change.service, "action": change.action.value, "reason": change.reason or None}
            for change in difference.services
        ],
        "images": [
            {"old": image.old, "new": image.new, "services": list(image.services)}
            for image in difference.images
        ],
        "commits": {
            tag: between and {"added": list(between.added), "taken_back": list(between.removed)}
            for tag, between in (difference.commits or {}).items()
        },
        "settings": [
            {"name": setting.name, "old": setting.old, "new": setting.new}
            for setting in difference.settings
        ],
        "files": [
            {"path": file.path, "change": file.sign, "diff": list(file.diff())}
            for file in difference.files
        ],
        "unfinished": difference.unfinished,
        "losses": list(difference.losses),
        "notes": list(difference.notes),
    }
