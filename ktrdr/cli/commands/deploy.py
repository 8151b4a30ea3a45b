"""`ktrdr deploy`: the group; its commands stand in `ktrdr.cli.deploying`."""

from __future__ import annotations

from typing import Final

import click

from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.lazy import Entry, LazyGroup

ENTRIES: Final = {
    "core": Entry("ktrdr.cli.deploying.apply:core", "Deploy the core stack, or a service of it."),
    "workers": Entry("ktrdr.cli.deploying.apply:workers", "Deploy the workers of nodes."),
    "all": Entry("ktrdr.cli.deploying.apply:everything", "Deploy the core, then all workers."),
    "init": Entry("ktrdr.cli.deploying.init:init", "Write an inventory by asking."),
    "rollback": Entry("ktrdr.cli.deploying.rollback:rollback", "Go back to an earlier release."),
    "history": Entry("ktrdr.cli.deploying.history:history", "What was deployed, and by whom."),
    "lock": Entry("ktrdr.cli.deploying.lock:lock", "See who works on a host, or release it."),
}


@click.group(cls=LazyGroup, entries=ENTRIES, epilog=EXIT_CODES)
def deploy() -> None:
    """Deploy the stack to the homelab."""
