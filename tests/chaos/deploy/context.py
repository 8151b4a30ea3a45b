"""Context of a case: the deploy, its hosts, and the fault."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.deploy.command import DeployCommand
from tests.chaos.deploy.hosts import Host
from tests.chaos.deploy.registry import BrokenRegistry


@dataclass
class CaseContext:
    """Context of a running case.

    Attributes:
        arguments: Arguments of the deploy, without its tag.
        tag: Tag of the deploy; a fault may change it.
        good_tag: Tag of the next deploy without a fault.
        env: Environment of the deploy.
        hosts: Hosts of the deploy.
        victim: Host in which the fault is injected.
        dice: Random generator of the case.
        directory: Directory for files of this case.
        registry: Replacement for a registry that fails.
        fields: Fields of the vault.
        command: The deploy command under test.
        undo: Callbacks that remove the fault.
        others: Further commands that the fault has started.
        extra: Further arguments.
    """

    arguments: tuple[str, ...]
    tag: str
    good_tag: str
    env: dict[str, str]
    hosts: tuple[Host, ...]
    victim: Host
    dice: random.Random
    directory: Path
    registry: BrokenRegistry
    fields: Mapping[str, str]
    command: DeployCommand = field(init=False)
    undo: ExitStack = field(default_factory=ExitStack)
    others: list[DeployCommand] = field(default_factory=list)
    extra: tuple[str, ...] = ()

    @property
    def commands(self) -> list[DeployCommand]:
        """All commands that were started."""
        return [*self.others, *([self.command] if hasattr(self, "command") else [])]

    def start(
        self, tag: str, name: str, *more: str, env: Mapping[str, str] | None = None
    ) -> DeployCommand:
        """Start a deploy of a tag."""
        return DeployCommand(
            (*self.arguments, "--tag", tag, *more),
            self.env if env is None else env,
            self.directory,
            name,
        )
