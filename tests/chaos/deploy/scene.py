"""What a fault has before it: one deploy in the lab, and the hosts it goes to."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.deploy.command import Running
from tests.chaos.deploy.hosts import Host
from tests.chaos.deploy.registry import BrokenRegistry


@dataclass
class Scene:
    """One case while it is played.

    Attributes:
        arguments: The command, without its tag.
        tag: What it deploys; a fault may choose another.
        good_tag: What the next plain run deploys.
        env: Its environment.
        hosts: Where to.
        victim: The one of them that the fault strikes.
        dice: What is left to chance.
        directory: Files of this case alone.
        registry: What takes the registry's place where it is to answer badly.
        undo: Takes the fault back.
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
    running: Running = field(init=False)
    undo: ExitStack = field(default_factory=ExitStack)
    others: list[Running] = field(default_factory=list)
    extra: tuple[str, ...] = ()

    @property
    def commands(self) -> list[Running]:
        """All that were started."""
        return [*self.others, *([self.running] if hasattr(self, "running") else [])]

    def start(
        self, tag: str, name: str, *more: str, env: Mapping[str, str] | None = None
    ) -> Running:
        """Starts the command for a tag."""
        return Running(
            (*self.arguments, "--tag", tag, *more),
            self.env if env is None else env,
            self.directory,
            name,
        )
