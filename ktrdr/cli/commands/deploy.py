"""`ktrdr deploy`: the group; its commands stand in `ktrdr.cli.deploy`."""

from __future__ import annotations

from typing import Final

import click

from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.lazy import LazyCommand, LazyGroup

ENTRIES: Final = {
    "check": LazyCommand("ktrdr.cli.deploy.check:check", "Look for all that could go wrong."),
    "diff": LazyCommand("ktrdr.cli.deploy.diff:diff", "Show what a deploy would change."),
    "core": LazyCommand(
        "ktrdr.cli.deploy.apply:core", "Deploy the core stack, or a service of it."
    ),
    "workers": LazyCommand("ktrdr.cli.deploy.apply:workers", "Deploy the workers of nodes."),
    "all": LazyCommand("ktrdr.cli.deploy.apply:everything", "Deploy the core, then all workers."),
    "init": LazyCommand("ktrdr.cli.deploy.init:init", "Write an inventory by asking."),
    "rollback": LazyCommand("ktrdr.cli.deploy.rollback:rollback", "Go back to an earlier release."),
    "history": LazyCommand("ktrdr.cli.deploy.history:history", "What was deployed, and by whom."),
    "lock": LazyCommand("ktrdr.cli.deploy.lock:lock", "See who works on a host, or release it."),
    "status": LazyCommand(
        "ktrdr.cli.deploy.status:status", "Show what runs, and whether it is what was deployed."
    ),
    "logs": LazyCommand("ktrdr.cli.deploy.logs:logs", "Show what services write, merged by time."),
    "exec": LazyCommand(
        "ktrdr.cli.deploy.execute:execute", "Run a command in the container of a service."
    ),
    "restart": LazyCommand(
        "ktrdr.cli.deploy.services:restart", "Restart services and wait until they are well."
    ),
    "stop": LazyCommand(
        "ktrdr.cli.deploy.services:stop", "Stop services until they are restarted."
    ),
    "down": LazyCommand("ktrdr.cli.deploy.down:down", "Take the stack off hosts; the data stays."),
    "prune": LazyCommand("ktrdr.cli.deploy.prune:prune", "Remove what old releases have left."),
}


@click.group(cls=LazyGroup, lazy_commands=ENTRIES, epilog=EXIT_CODES)
def deploy() -> None:
    """Deploy the stack to the homelab."""
