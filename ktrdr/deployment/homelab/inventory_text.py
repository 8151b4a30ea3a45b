"""Writes an inventory that is pleasant to read, from what somebody has answered."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import yaml

from ktrdr.deployment.homelab.inventory import DEFAULT_DOMAIN, Inventory, SecretSettings

_HEAD: Final = """\
# What is deployed where. `ktrdr deploy init` has written this file; now it is yours to edit.
# docs/adding-a-node.md lists every key there is; one that does not stand here has its default.
"""
_DEFAULTS: Final = SecretSettings()
_NO_QUOTES_NEEDED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Node:
    """A worker node.

    Attributes:
        name: What the operator calls it.
        host: Its name for ssh; None for the one that follows from the domain.
        scale: How many workers of each type it runs.
    """

    name: str
    host: str | None = None
    scale: int = 1


@dataclass(frozen=True, slots=True)
class Answers:
    """What `ktrdr deploy init` asks; `inventory` describes each.

    Attributes:
        domain: The DNS zone.
        core_host: The core host; None for the one that follows from the domain.
        nodes: The worker nodes.
        image: The image of backend and workers, without its tag.
        registry_user: Who logs in to the registry.
        source: Who keeps the secrets.
        vault: The vault of 1Password.
        item: The item in it.
        file: The encrypted file.
        identity: The private key that opens it; None for SOPS's own place.
    """

    domain: str = DEFAULT_DOMAIN
    core_host: str | None = None
    nodes: tuple[Node, ...] = ()
    image: str = str(Inventory.model_fields["image"].default)
    registry_user: str = str(Inventory.model_fields["registry_user"].default)
    source: str = _DEFAULTS.source
    vault: str = _DEFAULTS.vault
    item: str = _DEFAULTS.item
    file: str | None = None
    identity: str | None = None


def inventory_text(answers: Answers) -> str:
    """The inventory as YAML; whether it is a good one, `inventory_file.parse` tells."""
    parts = [
        _HEAD,
        f"# The DNS zone of the homelab.\ndomain: {_yaml(answers.domain)}\n",
        "".join(_images(answers)),
        "".join(_secrets(answers)),
        _core(answers),
        "".join(_workers(answers)),
    ]
    return "\n".join(parts)


def _images(answers: Answers) -> Iterator[str]:
    owner, _, _ = answers.image.rpartition("/")
    yield "# The images that CI builds, without the tags, which name releases.\n"
    yield f"image: {_yaml(answers.image)}\n"
    if owner:
        yield f"nfs_image: {_yaml(f'{owner}/ktrdr-nfs-server')}\n"
    yield "# Who logs in to the registry with the secret ghcr_token.\n"
    yield f"registry_user: {_yaml(answers.registry_user)}\n"


def _secrets(answers: Answers) -> Iterator[str]:
    yield "# Who keeps the secrets; docs/secrets.md says what each source needs.\n"
    yield f"secrets:\n  source: {_yaml(answers.source)}\n"
    if answers.source == "1password":
        yield f"  vault: {_yaml(answers.vault)}\n  item: {_yaml(answers.item)}\n"
    if answers.file is not None:
        yield "  # Relative to this file's directory.\n"
        yield f"  file: {_yaml(answers.file)}\n"
    if answers.identity is not None:
        yield f"  identity: {_yaml(answers.identity)}\n"


def _core(answers: Answers) -> str:
    host = answers.core_host or f"backend.{answers.domain}"
    return f"# The core host, by its name for ssh.\ncore:\n  host: {_yaml(host)}\n"


def _workers(answers: Answers) -> Iterator[str]:
    if not answers.nodes:
        yield "# Worker nodes: `B: {}` adds workers-b in the domain above.\nworkers: {}\n"
        return
    yield "# The worker nodes by name. `D: {}` would add workers-d in the domain above.\n"
    yield "workers:\n"
    for node in answers.nodes:
        lines = "".join(_node(node))
        name = _yaml(node.name)
        yield f"  {name}:\n{textwrap.indent(lines, ' ' * 4)}" if lines else f"  {name}: {{}}\n"


def _node(node: Node) -> Iterator[str]:
    if node.host is not None:
        yield f"host: {_yaml(node.host)}\n"
    if node.scale != 1:
        yield f"scale: {node.scale}\n"


def _yaml(text: str) -> str:
    """One line of text as YAML reads it back, in quotes where it needs them."""
    # Rare line breaks (U+0085, U+2028) are read back as spaces but for this style.
    style = None if text.splitlines() == [text] else '"'
    written: str = yaml.safe_dump(
        text, default_style=style, width=_NO_QUOTES_NEEDED, allow_unicode=True
    )
    return written.removesuffix("...\n").removesuffix("\n")
