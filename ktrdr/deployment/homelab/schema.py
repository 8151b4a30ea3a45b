"""Schema check: whether an older release can still work with the database.

A release only adds to the schema when it starts, so the release before it keeps working. Later,
contract migrations remove what no current release needs. A release that does not know them may
still need it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ktrdr.deployment.deploy.comparison import Comparison
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.hosts.history import DeployKind, HistoryEntry
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.scripts.script import Script, render
from ktrdr.deployment.ssh.interface import Transport
from ktrdr.errors import Conflict, HostNotReady

_TIMEOUT_S: Final = 30.0


def require_compatible(
    core: Host, release: HistoryEntry, history: Iterable[HistoryEntry], transport: Transport
) -> None:
    """Refuse a release that cannot work with the database since a contract migration.

    Args:
        core: Host of the database.
        release: Earlier deploy of the release.
        history: Deploys that hosts remember, with the migrations that their releases know.
        transport: Connection to the core host.

    Raises:
        Conflict: A contract migration removed what the release needs.
        HostNotReady: The database cannot be queried.
        HostUnreachable: The core host cannot be reached.
    """
    script = Script("homelab/scripts/query_database.sh", (core.project, "migrations"))
    result = transport.run(core.address, render(script, {}), timeout_s=_TIMEOUT_S)
    if result.exit_code:
        raise HostNotReady(
            f"the schema of the database on {core.address} cannot be queried: {result.reason()}",
            hint="Start the database first, or skip this check with --skip-validation.",
        )
    missing = unknown_migrations(result.stdout.split(), release, history)
    if missing:
        raise Conflict(
            f"release {release.id} ({release.tag}) cannot work with this database any more: the "
            f"contract migration {', '.join(missing)} was applied",
            hint="Deploy a later release, or restore the backup from before that migration.",
        )


def check_deploy(
    core: Host, prepared: Iterable[tuple[Plan, Comparison]], transport: Transport
) -> None:
    """Refuse the deploy of a release that cannot work with the database any more.

    A release that never ran on the hosts passes, because its migrations are unknown. The database
    is queried only if the hosts remember a contract migration that the release does not know.

    Args:
        core: Host of the database.
        prepared: Plans and their comparisons.
        transport: Connection to the core host.

    Raises:
        KtrdrError: See `require_compatible`.
    """
    concerned = [(plan, comparison) for plan, comparison in prepared if _is_checked(plan)]
    history = [entry for _, comparison in concerned for entry in comparison.history]
    migrations = _known_migrations(history)
    earlier = (
        last_run(history, plan.release.tag, comparison.digests) for plan, comparison in concerned
    )
    for release in {entry.tag: entry for entry in earlier if entry}.values():
        if migrations - set(release.contract_migrations or ()):
            require_compatible(core, release, history, transport)


def last_run(
    history: Sequence[HistoryEntry], tag: str, digests: Mapping[str, Sequence[str]]
) -> HistoryEntry | None:
    """Return the last good deploy of the image that a tag names now, if its migrations are known.

    Args:
        history: Deploys that hosts remember.
        tag: The tag, which may have named another image then.
        digests: Possible current digests of the images, by name and tag.
    """
    for entry in reversed(history):
        if entry.tag != tag or entry.contract_migrations is None or not entry.outcome.is_good:
            continue
        named = (name for name in entry.images if name.endswith(f":{tag}"))
        if not any(entry.had_other_image(name, digests.get(name, ())) for name in named):
            return entry
    return None


def unknown_migrations(
    applied: Sequence[str], release: HistoryEntry, history: Iterable[HistoryEntry]
) -> list[str]:
    """Return the applied contract migrations that a release does not know."""
    unknown = _known_migrations(history) - set(release.contract_migrations or ())
    return [name for name in applied if name in unknown]


def _is_checked(plan: Plan) -> bool:
    """Return whether a plan deploys our own programs; rollbacks were checked when planned."""
    if plan.entry.kind is not DeployKind.DEPLOY or plan.options.skip_validation:
        return False
    return any(service.reports_version for service in plan.expected)


def _known_migrations(history: Iterable[HistoryEntry]) -> set[str]:
    return {name for entry in history for name in entry.contract_migrations or ()}
