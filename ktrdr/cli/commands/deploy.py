"""`ktrdr deploy`: the group of the commands in `ktrdr.cli.deploy`."""

from __future__ import annotations

from typing import Final

import click

from ktrdr.cli.cli import EXIT_CODES
from ktrdr.cli.lazy import Entry, LazyGroup

ENTRIES: Final = {
    "check": Entry("ktrdr.cli.deploy.check:check", "Find everything that would prevent a deploy."),
    "diff": Entry("ktrdr.cli.deploy.diff:diff", "Show what a deploy would change."),
    "core": Entry("ktrdr.cli.deploy.apply:core", "Deploy the core stack, or a service of it."),
    "workers": Entry("ktrdr.cli.deploy.apply:workers", "Deploy the workers of one or more nodes."),
    "all": Entry("ktrdr.cli.deploy.apply:all_hosts", "Deploy the core, then all workers."),
    "init": Entry("ktrdr.cli.deploy.init:init", "Create an inventory."),
    "rollback": Entry("ktrdr.cli.deploy.rollback:rollback", "Redeploy an earlier release."),
    "history": Entry("ktrdr.cli.deploy.history:history", "Show the deploys to hosts."),
    "lock": Entry("ktrdr.cli.deploy.lock:lock", "Show or release the locks of hosts."),
    "status": Entry(
        "ktrdr.cli.deploy.status:status", "Show what runs, and whether it matches the last release."
    ),
    "logs": Entry("ktrdr.cli.deploy.logs:logs", "Show the logs of services, merged by time."),
    "exec": Entry(
        "ktrdr.cli.deploy.execute:execute", "Run a command in the container of a service."
    ),
    "restart": Entry(
        "ktrdr.cli.deploy.services:restart", "Restart services and wait until they are healthy."
    ),
    "stop": Entry("ktrdr.cli.deploy.services:stop", "Stop services until they are restarted."),
    "down": Entry("ktrdr.cli.deploy.down:down", "Remove the stack from hosts; the data stays."),
    "prune": Entry(
        "ktrdr.cli.deploy.prune:prune", "Remove images and files that no release needs."
    ),
}


@click.group(cls=LazyGroup, entries=ENTRIES, epilog=EXIT_CODES)
def deploy() -> None:
    """Deploy the stack, and maintain it on its hosts."""
