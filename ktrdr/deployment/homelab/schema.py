"""Whether an older release can still live with the database as it is now.

A release only adds to the schema when it starts, so the one before goes on beside it. What nobody
needs any more is taken away later, by contracting migrations and on purpose: from then on a release
that does not know of that would miss it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ktrdr.deployment.deploy.comparison import Comparison
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.homelab.hosts import Place
from ktrdr.deployment.hosts.history import Entry, Kind
from ktrdr.deployment.scripts.script import Script, render
from ktrdr.deployment.ssh.interface import Transport
from ktrdr.errors import Conflict, HostNotReady

_TIMEOUT_S: Final = 30.0


def check(core: Place, target: Entry, remembered: Iterable[Entry], transport: Transport) -> None:
    """Refuses a release that the database has left behind with a contracting migration.

    Args:
        core: The host of the database.
        target: The release that is to run.
        remembered: All that hosts remember: what later releases knew of.
        transport: The way to the core host.

    Raises:
        Conflict: The database has lost what that release needs.
        HostNotReady: The database cannot be asked.
        HostUnreachable: The core host cannot be reached.
    """
    script = render(Script("homelab/scripts/applied_migrations.sh", (core.project,)), {})
    result = transport.run(core.host, script, timeout_s=_TIMEOUT_S)
    if result.exit_code:
        reason = (result.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise HostNotReady(
            f"the database on {core.host} cannot be asked for its schema: {reason}",
            hint="Start it first; --skip-validation leaves this check out.",
        )
    missing = beyond(result.stdout.split(), target, remembered)
    if missing:
        raise Conflict(
            f"release {target.id} ({target.tag}) cannot work with this database any more, which "
            f"has seen the contracting migration {', '.join(missing)}",
            hint="Take a later release, or restore the backup made before that migration.",
        )


def check_deploy(
    core: Place, prepared: Iterable[tuple[Plan, Comparison]], transport: Transport
) -> None:
    """Refuses the deploy of such a release, as far as the hosts know it from an earlier time.

    One that never ran on them is let through. The database is asked only where one of them has
    known a contracting migration that the wanted release did not know when it ran.

    Args:
        core: The host of the database.
        prepared: What goes where, and what was found there.
        transport: The way to the core host.

    Raises:
        KtrdrError: As `check` does.
    """
    concerned = [(plan, found) for plan, found in prepared if _brings_our_own(plan)]
    remembered = [entry for _, found in concerned for entry in found.history]
    contracting = _contracting(remembered)
    earlier = (ran(remembered, plan.release.tag, found.digests) for plan, found in concerned)
    for target in {entry.tag: entry for entry in earlier if entry}.values():
        if contracting - set(target.contracts or ()):
            check(core, target, remembered, transport)


def ran(entries: Sequence[Entry], tag: str, images: Mapping[str, str]) -> Entry | None:
    """The last time that the very image of a tag ran in health and said what it knows, if ever.

    Args:
        entries: What hosts remember.
        tag: The tag, which may mean another image now than it did then.
        images: What the images' names mean now, by name.
    """
    for entry in reversed(entries):
        if entry.tag != tag or entry.contracts is None or not entry.outcome.is_good:
            continue
        then = {name: one for name, one in entry.images.items() if name.endswith(f":{tag}")}
        if all(images.get(name, digest) == digest for name, digest in then.items()):
            return entry
    return None


def _brings_our_own(plan: Plan) -> bool:
    """Whether a deploy that is to be checked touches what uses the database; ways back were."""
    asked = plan.request
    checked = asked.kind is Kind.DEPLOY and not asked.skip_validation
    return checked and any(service.says_version for service in plan.wanted)


def beyond(applied: Sequence[str], target: Entry, remembered: Iterable[Entry]) -> list[str]:
    """The contracting migrations that were applied and that a release does not know."""
    unknown = _contracting(remembered) - set(target.contracts or ())
    return [name for name in applied if name in unknown]


def _contracting(remembered: Iterable[Entry]) -> set[str]:
    return {name for entry in remembered for name in entry.contracts or ()}
