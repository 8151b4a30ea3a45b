"""Shell completion of hosts, nodes, services and tags, and `ktrdr completion`.

Completion reads the checkout and its inventory only, never the secrets or a host. If one of them
cannot be read, it offers nothing and prints nothing. The command itself will report the error.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ZshComplete

from ktrdr.cli.render import write_line
from ktrdr.deployment.releases.release import Release, Target, compose_file_name, tag_for_commit

_SHELLS: Final = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
_INSTALLATION: Final = """\b
Installation:
  bash  ktrdr completion bash >~/.local/share/bash-completion/completions/ktrdr
  zsh   ktrdr completion zsh >"${fpath[1]}/_ktrdr"
  fish  ktrdr completion fish >~/.config/fish/completions/ktrdr.fish
"""
_RECENT_COMMITS: Final = 20
_TARGETS: Final[tuple[Target, ...]] = ("core", "workers")
_Items = list[CompletionItem]


@click.command(epilog=_INSTALLATION)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that completes commands, nodes, services and tags in a shell."""
    root = context.find_root()
    write_line(_SHELLS[shell](root.command, {}, "ktrdr", "_KTRDR_COMPLETE").source())


def complete_nodes(ctx: click.Context, _: click.Parameter, incomplete: str) -> _Items:
    """Complete the nodes of the inventory that the command line does not name yet."""
    return _matching(incomplete, lambda: _unused_nodes(ctx, ctx.params.get("node") or ()))


def complete_hosts(ctx: click.Context, _: click.Parameter, incomplete: str) -> _Items:
    """Complete ``core``, ``workers NODE`` or ``all``."""
    words = ctx.params.get("hosts") or ()
    if not words:
        return _matching(incomplete, lambda: map(CompletionItem, (*_TARGETS, "all")))
    return _matching(incomplete, lambda: _unused_nodes(ctx, words) if words[0] == "workers" else ())


def complete_services(ctx: click.Context, _: click.Parameter, incomplete: str) -> _Items:
    """Complete the services of the hosts on the command line, by default of all hosts."""
    hosts = ctx.params.get("hosts") or _TARGETS
    targets = [target for target in _TARGETS if target in hosts or "all" in hosts]
    return _matching(incomplete, lambda: (item for each in targets for item in _services(each)))


def complete_core_services(_ctx: click.Context, _: click.Parameter, incomplete: str) -> _Items:
    """Complete the services of the core stack, or ``all``."""
    return _matching(incomplete, lambda: (*_services("core"), CompletionItem("all")))


def complete_exec_words(ctx: click.Context, _: click.Parameter, incomplete: str) -> _Items:
    """Complete the host and the service of `ktrdr deploy exec`."""

    def items() -> Iterable[CompletionItem]:
        match ctx.params.get("words") or ():
            case ():
                return map(CompletionItem, _TARGETS)
            case ("workers",):
                return (item for item in _unused_nodes(ctx, ()) if item.value != "all")
            case ("core",):
                return _services("core")
            case ("workers", _):
                return _services("workers")
        return ()

    return _matching(incomplete, items)


def complete_tags(_ctx: click.Context, _: click.Parameter, incomplete: str) -> _Items:
    """Complete the tags of recent commits."""
    from ktrdr.deployment.releases.checkout import Checkout

    def items() -> Iterable[CompletionItem]:
        for commit, subject in Checkout.find(Path.cwd()).recent_commits(_RECENT_COMMITS):
            yield CompletionItem(tag_for_commit(commit), help=subject)

    return _matching(incomplete, items)


def _matching(incomplete: str, items: Callable[[], Iterable[CompletionItem]]) -> _Items:
    """Return the items that begin with a text, or none if they cannot be listed."""
    # An error message would be printed into the line that the user is typing.
    with contextlib.suppress(Exception):
        return [item for item in items() if item.value.startswith(incomplete)]
    return []


def _unused_nodes(ctx: click.Context, used: tuple[str, ...]) -> Iterable[CompletionItem]:
    from ktrdr.cli.hosts import read_inventory

    file = ctx.params.get("inventory") or os.environ.get("KTRDR_INVENTORY")
    inventory = read_inventory(Path(file) if file else None)
    items = [CompletionItem(name, help=node.host) for name, node in inventory.workers.items()]
    return (item for item in (*items, CompletionItem("all")) if item.value not in used)


def _services(target: Target) -> _Items:
    from ktrdr.deployment.releases.checkout import Checkout

    name = compose_file_name(target)
    content = (Checkout.find(Path.cwd()).root / name).read_bytes()
    stack = Release("", None, {name: content}).parse_compose_file(target)
    return [CompletionItem(service.name) for service in stack.services]
