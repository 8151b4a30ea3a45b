"""Whether an older release can still live with the database as it is now.

A release only adds to the schema when it starts, so the one before goes on beside it. What nobody
needs any more is taken away later, by contracting migrations and on purpose: from then on a release
that does not know of that would miss it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ktrdr.deployment.commands import schema
from ktrdr.deployment.commands.script import Script, render
from ktrdr.deployment.history import Entry
from ktrdr.deployment.targets import Place
from ktrdr.deployment.transport.interface import Transport
from ktrdr.errors import Conflict, HostNotReady

_TIMEOUT_S: Final = 30.0


def check(core: Place, target: Entry, remembered: Iterable[Entry], transport: Transport) -> None:
    """Refuses a way back that leads across a contracting migration.

    Args:
        core: The host of the database.
        target: The release to go back to.
        remembered: All that hosts remember: what later releases knew of.
        transport: The way to the core host.

    Raises:
        Conflict: The database has lost what that release needs.
        HostNotReady: The database cannot be asked.
        HostUnreachable: The core host cannot be reached.
    """
    script = render(Script(schema.applied()), {})
    result = transport.run(core.host, script, timeout_s=_TIMEOUT_S)
    if result.exit_code:
        reason = (result.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise HostNotReady(
            f"the database on {core.host} cannot be asked for its schema: {reason}",
            hint="Start it first; --skip-validation goes back without this check.",
        )
    missing = beyond(result.stdout.split(), target, remembered)
    if missing:
        raise Conflict(
            f"release {target.id} ({target.tag}) cannot work with this database any more, which "
            f"has seen the contracting migration {', '.join(missing)}",
            hint="Go back to a later release, or restore the backup made before that migration.",
        )


def beyond(applied: Sequence[str], target: Entry, remembered: Iterable[Entry]) -> list[str]:
    """The contracting migrations that were applied and that a release does not know."""
    contracting = {name for entry in remembered for name in entry.contracts or ()}
    known = set(target.contracts or ())
    return [name for name in applied if name in contracting and name not in known]
