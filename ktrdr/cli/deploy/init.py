"""`ktrdr deploy init`: writes an inventory by asking."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.deploy import dependencies as world
from ktrdr.cli.hosts import INVENTORY, inventory_option
from ktrdr.cli.render import say
from ktrdr.deployment.homelab.inventory import HIGHEST_SCALE
from ktrdr.deployment.homelab.inventory_file import parse
from ktrdr.deployment.homelab.inventory_text import Answers, Node, inventory_text
from ktrdr.deployment.releases.checkout import Checkout
from ktrdr.errors import ConfigurationError, UsageError

_SOURCES: Final = ("1password", "age", "sops", "environment")
_FILES: Final = {"age": "secrets.age", "sops": "secrets.sops.yaml"}
_NODES: Final = ("B", "C")
_NEXT: Final = """\
Next:
  ktrdr secrets check    whether the secrets are there and good
  ktrdr deploy check     whether the hosts are ready (docs/deploying.md has the list)
  ktrdr deploy all       the first deploy"""


@click.command(epilog=EXIT_CODES)
@click.option("--domain", metavar="NAME", help="The DNS zone of the homelab.")
@click.option("--core-host", metavar="NAME", help="The core host, as ssh knows it.")
@click.option(
    "--node", "nodes", multiple=True, metavar="NAME", help="A worker node; may be repeated."
)
@click.option("--image", metavar="NAME", help="The image of backend and workers, without a tag.")
@click.option("--registry-user", metavar="NAME", help="Who logs in to the registry.")
@click.option("--secret-source", type=click.Choice(_SOURCES), help="Who keeps the secrets.")
@click.option("--yes", "-y", is_flag=True, help="Take the default for all that is not given.")
@inventory_option
def init(
    domain: str | None,
    core_host: str | None,
    nodes: tuple[str, ...],
    image: str | None,
    registry_user: str | None,
    secret_source: str | None,
    yes: bool,
    inventory: Path | None,
) -> None:
    """Write an inventory: what is deployed where, and who keeps the secrets.

    Asks for what no option says; each answer is checked as the inventory will be. A file that is
    there is replaced only if you agree.
    """
    checkout = Checkout.find(Path.cwd())
    path = inventory or checkout.root / INVENTORY
    shown = str(inventory or INVENTORY)
    ask = _Questions(shown, yes=yes)
    if path.exists():
        ask.leave_to_replace(shown)
    owner = checkout.github_owner() or "ktrdr"
    answers = ask.text(Answers(), "DNS zone of the homelab", "domain", domain)
    answers = ask.text(
        answers, "Core host", "core_host", core_host, default=f"backend.{answers.domain}"
    )
    answers = ask.nodes(answers, nodes)
    answers = ask.text(
        answers, "Image, without a tag", "image", image, default=f"ghcr.io/{owner}/ktrdr-backend"
    )
    answers = ask.text(answers, "Registry user", "registry_user", registry_user, default=owner)
    answers = ask.source(answers, secret_source)
    _write(path, inventory_text(answers), shown)
    say(f"\n{shown} is written.\n\n{_NEXT}")


class _Questions:
    """Asks on standard error, until an answer is one that the inventory takes."""

    def __init__(self, shown: str, *, yes: bool) -> None:
        self._shown = shown
        self._yes = yes
        if not (yes or world.somebody_is_there()):
            raise UsageError(
                "nobody is there to answer", hint="Say --yes to take the defaults, and see --help."
            )

    def leave_to_replace(self, shown: str) -> None:
        """Goes on only where somebody says that the file may be lost."""
        if self._yes:
            raise UsageError(
                f"{shown} is there already",
                hint="Move it away, name another file with --inventory, or answer without --yes.",
            )
        if not click.confirm(f"{shown} is there already. Replace it in the end?", err=True):
            raise UsageError(f"{shown} stays as it is", hint="Name another file with --inventory.")

    def text(
        self,
        answers: Answers,
        question: str,
        name: str,
        given: str | None = None,
        *,
        default: str | None = None,
    ) -> Answers:
        """One answer of text, under its name in the answers."""
        usual = default if default is not None else getattr(answers, name)

        def with_text(text: str) -> Answers:
            change: dict[str, Any] = {name: text.strip()}
            return replace(answers, **change)

        return self._ask(question, usual, given, with_text)

    def nodes(self, answers: Answers, given: tuple[str, ...]) -> Answers:
        """The worker nodes, and where each of them is."""
        answers = self._ask(
            "Worker nodes, by name (- for none)",
            " ".join(_NODES),
            " ".join(given) or None,
            lambda text: replace(answers, nodes=tuple(map(Node, _names(text)))),
        )
        for at, node in enumerate(answers.nodes):
            usual = f"workers-{node.name.lower()}.{answers.domain}"
            answers = self._node(
                answers, at, f"Host of {node.name}", usual, partial(_hosted, usual=usual)
            )
            answers = self._node(
                answers,
                at,
                f"Workers of each type on {node.name}, 1 to {HIGHEST_SCALE}",
                "1",
                _scaled,
            )
        return answers

    def _node(
        self,
        answers: Answers,
        at: int,
        question: str,
        usual: str,
        changed: Callable[[Node, str], Node],
    ) -> Answers:
        nodes = answers.nodes

        def with_node(text: str) -> Answers:
            node = changed(nodes[at], text.strip())
            return replace(answers, nodes=(*nodes[:at], node, *nodes[at + 1 :]))

        return self._ask(question, usual, None, with_node)

    def source(self, answers: Answers, given: str | None) -> Answers:
        """Who keeps the secrets, and where."""
        answers = self._ask(
            f"Who keeps the secrets ({', '.join(_SOURCES)})",
            answers.source,
            given,
            lambda text: replace(answers, source=text.strip(), file=_FILES.get(text.strip())),
        )
        if answers.source == "1password":
            answers = self.text(answers, "Vault", "vault")
            return self.text(answers, "Item in it", "item")
        if answers.source in _FILES:
            return self.text(answers, "Encrypted file, from the inventory's directory on", "file")
        return answers

    def _ask(
        self, question: str, usual: str, given: str | None, with_answer: Callable[[str], Answers]
    ) -> Answers:
        if given is not None or self._yes:
            answers = with_answer(usual if given is None else given)
            parse(inventory_text(answers), shown_as=self._shown)
            return answers
        while True:
            text = click.prompt(question, default=usual, err=True)
            try:
                answers = with_answer(text)
                parse(inventory_text(answers), shown_as=question)
            except ConfigurationError as fault:
                say(f"  {_reason(fault)}")
            else:
                return answers


def _reason(fault: ConfigurationError) -> str:
    # Neither the place nor what else follows from a wrong answer helps somebody who is asked once.
    return re.sub(r" \(and \d+ more\)$", "", fault.message.partition(": ")[2])


def _names(text: str) -> list[str]:
    return [] if text.strip() == "-" else text.replace(",", " ").split()


def _hosted(node: Node, text: str, *, usual: str) -> Node:
    return replace(node, host=None if text == usual else text)


def _scaled(node: Node, text: str) -> Node:
    if not text.isdecimal():
        raise ConfigurationError(f"scale: scale must be a whole number, not {text!r}")
    return replace(node, scale=int(text))


def _write(path: Path, text: str, shown: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Beside it and then into its place: whatever happens, one whole file is there.
        new = path.with_name(f".{path.name}.new")
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    except OSError as exc:
        raise ConfigurationError(
            f"{shown} cannot be written: {exc.strerror}", hint="Name another file with --inventory."
        ) from exc
