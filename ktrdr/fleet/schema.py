"""Contract migrations by ``python -m ktrdr.fleet.schema status|contract`` in a backend's container.

A release only adds to the schema when it starts (see `ktrdr.database.migrate`), so that workers of
the previous release still work. ``contract`` removes what only those needed, once none of them is
left. From then on a rollback to that release is impossible.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from ktrdr.database.migrate import list_pending, migrate
from ktrdr.database.pool import make_pool
from ktrdr.database.timescaledb import update_timescaledb
from ktrdr.errors import Conflict, KtrdrError, UsageError
from ktrdr.fleet.registry import WorkerRegistry
from ktrdr.settings import Settings


async def apply_contract_migrations(settings: Settings) -> list[str]:
    """Apply the contract migrations and return their names.

    Raises:
        Conflict: A registered worker runs another release than this one.
    """
    async with make_pool(settings, "ktrdr-schema", max_size=1) as pool:
        workers = await WorkerRegistry(pool).list_workers()
    others = [worker for worker in workers if worker.version != settings.image_tag]
    if others:
        names = ", ".join(f"{worker.worker_id} ({worker.version})" for worker in others)
        raise Conflict(
            f"some workers run a release other than {settings.image_tag}: {names}",
            hint="Deploy this release to them, or remove them, then run this again.",
        )
    return [*await migrate(settings, ("post",)), *await update_timescaledb(settings)]


async def _run(arguments: Sequence[str], settings: Settings) -> list[str]:
    if list(arguments) == ["contract"]:
        names = await apply_contract_migrations(settings)
        return [f"applied {name}" for name in names] or ["nothing to do"]
    if list(arguments) == ["status"]:
        return [
            f"{phase}: {', '.join(await list_pending(settings, phase)) or 'all applied'}"
            for phase in ("pre", "post")
        ]
    raise UsageError(
        f"unknown command {' '.join(arguments)!r}", hint="Use one of: status, contract."
    )


def main(arguments: Sequence[str]) -> int:
    """Run a command; return 0, or the exit code of its error."""
    try:
        for line in asyncio.run(_run(arguments, Settings.load())):
            sys.stdout.write(f"{line}\n")
    except KtrdrError as exc:
        sys.stderr.write("".join(f"{text}\n" for text in (exc.message, exc.hint) if text))
        return exc.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
