"""Asks hosts what they remember of their deploys, and for what ran before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ktrdr.deployment.homelab.hosts import Place
from ktrdr.deployment.hosts import history
from ktrdr.deployment.hosts.history import Entry
from ktrdr.deployment.hosts.parallel import on_each
from ktrdr.deployment.releases import release as releases
from ktrdr.deployment.releases.release import Release
from ktrdr.deployment.scripts.script import Script, render
from ktrdr.deployment.ssh.interface import Transport
from ktrdr.errors import ConfigurationError, HostNotReady, KtrdrError, NotFound

_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Remembered:
    """The history of one host.

    Attributes:
        place: The host.
        entries: What it remembers, oldest first.
        error: Why it could not be asked.
    """

    place: Place
    entries: tuple[Entry, ...] = ()
    error: KtrdrError | None = None


def ask(places: Sequence[Place], transport: Transport) -> list[Remembered]:
    """The histories of all these hosts; one that cannot be asked does not hide the others."""
    return on_each(lambda place: _ask(place, transport), places, transport)


def _ask(place: Place, transport: Transport) -> Remembered:
    script = render(Script("scripts/read_history.sh", (place.workdir,)), {})
    try:
        result = transport.run(place.host, script, timeout_s=_TIMEOUT_S)
    except KtrdrError as error:
        return Remembered(place, error=error)
    if result.exit_code:
        reason = (result.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        hint = f"See who may read {place.workdir}/{history.RECORDS}/history.jsonl there."
        told = f"the history on {place.host} cannot be read: {reason}"
        return Remembered(place, error=HostNotReady(told, hint=hint))
    return Remembered(place, history.read(result.stdout.splitlines()))


def way_back(found: Remembered, name: str | None) -> Entry:
    """The release that a host goes back to.

    Args:
        found: What the host remembers.
        name: A release's id or tag; by default the one before.

    Raises:
        NotFound: There is no such release.
        ConfigurationError: There is none at all.
    """
    if found.error:
        raise found.error
    where = f"{found.place.name} on {found.place.host}"
    if name is None:
        entry = history.before(found.entries)
        if entry is None:
            raise ConfigurationError(
                f"{where} remembers no release to go back to",
                hint=f"See `ktrdr deploy history {found.place.name}`; deploy a version with --tag.",
            )
        return entry
    entry = history.named(found.entries, name)
    if entry is None:
        good = [each.id for each in found.entries if each.outcome.is_good]
        raise NotFound(
            f"{where} remembers no good release {name!r}",
            hint=f"It has: {', '.join(good[-5:])}." if good else "It has none.",
        )
    return entry


def kept(place: Place, entry: Entry, transport: Transport) -> Release:
    """The release as the host keeps it.

    Raises:
        HostNotReady: It does not keep it (any more), or no longer as it was.
        HostUnreachable: The host cannot be reached.
    """
    arguments = (place.workdir, entry.configuration)
    script = render(Script("scripts/read_configuration.sh", arguments), {})
    result = transport.run(place.host, script, timeout_s=_TIMEOUT_S)
    files = releases.unpacked(result.stdout) if result.exit_code == 0 else {}
    release = Release(entry.tag, entry.commit, files)
    if release.configuration != entry.configuration:
        raise HostNotReady(
            f"{place.host} does not keep the configuration of release {entry.id}",
            hint="Deploy that version from a checkout with --tag.",
        )
    return release
