"""`ktrdr deploy`: the group of the commands in `ktrdr.cli.deploy`."""

from __future__ import annotations

from typing import Final

from ktrdr.cli.cli import EXIT_CODES, LazyCommand, LazyGroup

COMMANDS: Final = {
    "check": LazyCommand(
        "ktrdr.cli.deploy.check:check", "Find everything that would prevent a deploy."
    ),
    "diff": LazyCommand("ktrdr.cli.deploy.diff:diff", "Show what a deploy would change."),
    "core": LazyCommand(
        "ktrdr.cli.deploy.apply:core", "Deploy the core stack, or a service of it."
    ),
    "workers": LazyCommand(
        "ktrdr.cli.deploy.apply:workers", "Deploy the workers of one or more nodes."
    ),
    "all": LazyCommand("ktrdr.cli.deploy.apply:all_hosts", "Deploy the core, then all workers."),
    "init": LazyCommand("ktrdr.cli.deploy.init:init", "Create an inventory."),
    "rollback": LazyCommand("ktrdr.cli.deploy.rollback:rollback", "Redeploy an earlier release."),
    "history": LazyCommand("ktrdr.cli.deploy.history:history", "Show the deploys to hosts."),
    "watch": LazyCommand(
        "ktrdr.cli.deploy.watch:watch", "Follow deploys that hosts are finishing."
    ),
    "lock": LazyCommand("ktrdr.cli.deploy.lock:lock", "Show or release the locks of hosts."),
    "status": LazyCommand(
        "ktrdr.cli.deploy.status:status", "Show what runs, and whether it matches the last release."
    ),
    "logs": LazyCommand("ktrdr.cli.deploy.logs:logs", "Show the logs of services, merged by time."),
    "exec": LazyCommand(
        "ktrdr.cli.deploy.execute:execute", "Run a command in the container of a service."
    ),
    "restart": LazyCommand(
        "ktrdr.cli.deploy.services:restart", "Restart services and wait until they are healthy."
    ),
    "stop": LazyCommand(
        "ktrdr.cli.deploy.services:stop", "Stop services until they are restarted."
    ),
    "down": LazyCommand(
        "ktrdr.cli.deploy.down:down", "Remove the stack from hosts; the data stays."
    ),
    "prune": LazyCommand(
        "ktrdr.cli.deploy.prune:prune", "Remove images and files that no release needs."
    ),
}


deploy: Final = LazyGroup(
    name="deploy",
    help="Deploy the stack, and maintain it on its hosts.",
    lazy_commands=COMMANDS,
    epilog=EXIT_CODES,
)
