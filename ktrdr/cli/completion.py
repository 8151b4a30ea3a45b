"""What a shell offers on Tab: hosts, nodes, services, tags; and the scripts that make it ask.

Everything comes from the checkout and its inventory: no vault and no host is asked. Whatever is
wrong with them, Tab offers nothing and says nothing; the command itself will say it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ZshComplete

from ktrdr.deployment.releases.release import Release, Target, compose_file_name, tag_for_commit

_SHELLS: Final = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
_WHERE: Final = """\b
Where it belongs:
  bash  ktrdr completion bash >~/.local/share/bash-completion/completions/ktrdr
  zsh   ktrdr completion zsh >"${fpath[1]}/_ktrdr"
  fish  ktrdr completion fish >~/.config/fish/completions/ktrdr.fish
"""
_RECENT: Final = 20
_TARGETS: Final[tuple[Target, ...]] = ("core", "workers")
_Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


@click.command(epilog=_WHERE)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what SHELL needs to complete commands, nodes, services and tags."""
    root = context.find_root()
    click.echo(_SHELLS[shell](root.command, {}, "ktrdr", "_KTRDR_COMPLETE").source())


def _quietly(offers: Callable[[click.Context], Iterable[CompletionItem]]) -> _Complete:
    """The offers that begin with what is typed; none where they cannot be had."""

    def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found: list[CompletionItem] = []
        # A message would land in the middle of the line that somebody is typing.
        with contextlib.suppress(Exception):
            found += [item for item in offers(ctx) if item.value.startswith(incomplete)]
        return found

    return complete


def _offer_nodes(ctx: click.Context) -> Iterator[CompletionItem]:
    given = ctx.params.get("node") or ()
    return (item for item in _nodes(ctx) if item.value not in given)


def _offer_hosts(ctx: click.Context) -> Iterable[CompletionItem]:
    return _hosts(ctx, ctx.params.get("hosts") or ())


def _offer_execution(ctx: click.Context) -> Iterable[CompletionItem]:
    match ctx.params.get("words") or ():
        case ():
            return map(CompletionItem, _TARGETS)
        case ("workers",):
            return _hosts(ctx, ("workers",), every=False)
        case ("core",):
            return _services("core")
        case ("workers", _):
            return _services("workers")
    return ()


def _offer_services(ctx: click.Context) -> Iterable[CompletionItem]:
    hosts = ctx.params.get("hosts") or _TARGETS
    wanted = [target for target in _TARGETS if target in hosts or "all" in hosts]
    return (item for target in wanted for item in _services(target))


def _offer_core_services(_: click.Context) -> Iterable[CompletionItem]:
    return (*_services("core"), CompletionItem("all"))


def _offer_tags(_: click.Context) -> Iterable[CompletionItem]:
    from ktrdr.deployment.releases.checkout import Checkout

    recent = Checkout.find(Path.cwd()).recent_commits(_RECENT)
    return (CompletionItem(tag_for_commit(commit), help=subject) for commit, subject in recent)


def _hosts(
    ctx: click.Context, given: tuple[str, ...], *, every: bool = True
) -> Iterable[CompletionItem]:
    if not given:
        return map(CompletionItem, (*_TARGETS, "all"))
    if given[0] != "workers":
        return ()
    known = _nodes(ctx) if every else (item for item in _nodes(ctx) if item.value != "all")
    return (item for item in known if item.value not in given)


def _nodes(ctx: click.Context) -> Iterator[CompletionItem]:
    from ktrdr.cli.hosts import read_inventory

    named = ctx.params.get("inventory") or os.environ.get("KTRDR_INVENTORY")
    inventory = read_inventory(Path(named) if named else None)
    for name, node in inventory.workers.items():
        yield CompletionItem(name, help=node.host)
    yield CompletionItem("all")


def _services(target: Target) -> Iterator[CompletionItem]:
    from ktrdr.deployment.releases.checkout import Checkout

    name = compose_file_name(target)
    content = (Checkout.find(Path.cwd()).root / name).read_bytes()
    for service in Release("", None, {name: content}).parse_compose_file(target).services:
        yield CompletionItem(service.name)


nodes: Final = _quietly(_offer_nodes)
hosts: Final = _quietly(_offer_hosts)
services: Final = _quietly(_offer_services)
core_services: Final = _quietly(_offer_core_services)
execution: Final = _quietly(_offer_execution)
tags: Final = _quietly(_offer_tags)
