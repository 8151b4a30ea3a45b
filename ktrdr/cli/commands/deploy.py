"""`ktrdr deploy`: the group; its commands stand in `ktrdr.cli.deploy`."""

from __future__ import annotations

from typing import Final

import click

from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.lazy import Entry, LazyGroup

ENTRIES: Final = {
    "check": Entry("ktrdr.cli.deploy.check:check", "Look for all that could go wrong."),
    "diff": Entry("ktrdr.cli.deploy.diff:diff", "Show what a deploy would change."),
    "core": Entry("ktrdr.cli.deploy.apply:core", "Deploy the core stack, or a service of it."),
    "workers": Entry("ktrdr.cli.deploy.apply:workers", "Deploy the workers of nodes."),
    "all": Entry("ktrdr.cli.deploy.apply:everything", "Deploy the core, then all workers."),
    "init": Entry("ktrdr.cli.deploy.init:init", "Write an inventory by asking."),
    "rollback": Entry("ktrdr.cli.deploy.rollback:rollback", "Go back to an earlier release."),
    "history": Entry("ktrdr.cli.deploy.history:history", "What was deployed, and by whom."),
    "lock": Entry("ktrdr.cli.deploy.lock:lock", "See who works on a host, or release it."),
    "status": Entry(
        "ktrdr.cli.deploy.status:status", "Show what runs, and whether it is what was deployed."
    ),
    "logs": Entry("ktrdr.cli.deploy.logs:logs", "Show what services write, merged by time."),
    "exec": Entry(
        "ktrdr.cli.deploy.execute:execute", "Run a command in the container of a service."
    ),
    "restart": Entry(
        "ktrdr.cli.deploy.services:restart", "Restart services and wait until they are well."
    ),
    "stop": Entry("ktrdr.cli.deploy.services:stop", "Stop services until they are restarted."),
    "down": Entry("ktrdr.cli.deploy.down:down", "Take the stack off hosts; the data stays."),
    "prune": Entry("ktrdr.cli.deploy.prune:prune", "Remove what old releases have left."),
}


@click.group(cls=LazyGroup, entries=ENTRIES, epilog=EXIT_CODES)
def deploy() -> None:
    """Deploy the stack to the homelab."""
