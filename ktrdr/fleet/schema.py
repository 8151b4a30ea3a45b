"""The schema's second half: ``python -m ktrdr.fleet.schema status|contract``, beside a backend.

A release only adds to the schema when it starts (see `ktrdr.database.migrate`), so that workers of
the release before go on. What those needed is taken away by ``contract``, once none of them is
left; from then on there is no way back to that release.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from ktrdr.database.migrate import migrate, missing
from ktrdr.database.pool import make_pool
from ktrdr.errors import Conflict, KtrdrError, UsageError
from ktrdr.fleet.registry import WorkerRegistry
from ktrdr.settings import Settings

_USAGE = "status|contract"


async def contract(settings: Settings) -> list[str]:
    """Takes away what only earlier releases needed; gives the names of what it applied.

    Raises:
        Conflict: A registered worker runs another release than this one.
    """
    async with make_pool(settings, "ktrdr-schema", max_size=1) as pool:
        workers = await WorkerRegistry(pool).workers()
    others = [each for each in workers if each.version != settings.image_tag]
    if others:
        named = ", ".join(f"{each.worker_id} ({each.version})" for each in others)
        raise Conflict(
            f"workers of another release than {settings.image_tag} still work: {named}",
            hint="Deploy this release to them, or remove them, and run this again.",
        )
    return await migrate(settings, ("post",))


async def _answer(words: Sequence[str], settings: Settings) -> list[str]:
    if list(words) == ["contract"]:
        return [f"applied {name}" for name in await contract(settings)] or ["nothing to do"]
    if list(words) == ["status"]:
        return [
            f"{phase}: {', '.join(await missing(settings, phase)) or 'all applied'}"
            for phase in ("pre", "post")
        ]
    raise UsageError(f"{' '.join(words) or 'nothing'} is not one of {_USAGE}", hint="Name one.")


def main(words: Sequence[str]) -> int:
    """Does what ``words`` say; the exit code is that of the error, if there is one."""
    try:
        for line in asyncio.run(_answer(words, Settings.load())):
            sys.stdout.write(f"{line}\n")
    except KtrdrError as exc:
        sys.stderr.write("".join(f"{text}\n" for text in (exc.message, exc.hint) if text))
        return exc.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
