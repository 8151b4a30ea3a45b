"""Queries of the histories of hosts, and of the releases that they keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ktrdr.deployment.hosts.actions import HistoryAction, parse_actions
from ktrdr.deployment.hosts.history import (
    RECORDS,
    HistoryEntry,
    find_release,
    is_behind,
    newest_release,
    parse_history,
    previous_release,
)
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.parallel import map_hosts
from ktrdr.deployment.releases.release import Release, unpack_archive
from ktrdr.deployment.scripts.script import Script, render
from ktrdr.deployment.ssh.interface import Transport
from ktrdr.errors import (
    ConfigurationError,
    HostNotReady,
    HostUnreachable,
    KtrdrError,
    NotFound,
)

_TIMEOUT_S: Final = 30.0
# Number of releases that the hint for an unknown name lists.
_LISTED: Final = 5


@dataclass(frozen=True, slots=True)
class HostHistory:
    """History of one host.

    Attributes:
        host: The host.
        entries: Its deploys, oldest first.
        actions: Changes of it that are no deploys, oldest first.
        error: Why it could not be queried.
    """

    host: Host
    entries: tuple[HistoryEntry, ...] = ()
    actions: tuple[HistoryAction, ...] = ()
    error: KtrdrError | None = None


def fetch_histories(hosts: Sequence[Host], transport: Transport) -> list[HostHistory]:
    """Return the history of each host; an error on one host does not hide the others."""
    return map_hosts(lambda host: _fetch_history(host, transport), hosts, transport)


def _fetch_history(host: Host, transport: Transport) -> HostHistory:
    script = render(Script("scripts/read_history.sh", (host.workdir,)), {})
    try:
        result = transport.run(host.address, script, timeout_s=_TIMEOUT_S)
    except KtrdrError as error:
        return HostHistory(host, error=error)
    if result.exit_code:
        not_readable = HostNotReady(
            f"the history on {host.address} cannot be read: {result.reason()}",
            hint=f"Check the permissions of {host.workdir}/{RECORDS}/history.jsonl on the host.",
        )
        return HostHistory(host, error=not_readable)
    lines = result.stdout.splitlines()
    return HostHistory(host, parse_history(lines), parse_actions(lines))


def find_behind(
    hosts: Sequence[Host], fleet: Sequence[Host], tag: str | None, transport: Transport
) -> tuple[str, list[Host]]:
    """Return a tag, by default that of the fleet's newest release, and the hosts that lack it.

    These may include worker nodes that are off.

    Raises:
        ConfigurationError: Nothing was deployed yet.
        KtrdrError: The history of the core, or of a host that is on, could not be queried.
    """
    histories = fetch_histories(hosts if tag else fleet, transport)
    for history in histories:
        is_off = isinstance(history.error, HostUnreachable) and history.error.is_off
        if history.error and not (is_off and history.host.node):
            raise history.error
    digests: Mapping[str, Sequence[str]] = {}
    if tag is None:
        newest = newest_release(entry for each in histories for entry in each.entries)
        if newest is None:
            raise ConfigurationError(
                "no host remembers a good release, so none can be behind it",
                hint="Deploy without --behind, or name a version with --tag.",
            )
        tag, digests = newest.tag, {name: newest.digests_of(name) for name in newest.images}
    behind = [each.host for each in histories if is_behind(each.entries, tag, digests)]
    return tag, [host for host in behind if host in hosts]


def rollback_target(history: HostHistory, name: str | None) -> HistoryEntry:
    """Return the release that a host rolls back to.

    Args:
        history: The host's history.
        name: Id or tag of the release; None for the previous release.

    Raises:
        NotFound: The host has no such release.
        ConfigurationError: The host has no release to roll back to.
        KtrdrError: The history could not be queried.
    """
    if history.error:
        raise history.error
    where = f"{history.host.name} on {history.host.address}"
    if name is None:
        entry = previous_release(history.entries)
        if entry is None:
            raise ConfigurationError(
                f"{where} has no earlier good release to roll back to",
                hint=f"Name a release of `ktrdr deploy history {history.host.name}` with --to, or "
                "deploy a version with --tag.",
            )
        return entry
    entry = find_release(history.entries, name)
    if entry is None:
        good = [each.id for each in history.entries if each.outcome.is_good]
        listed = f"It has: {', '.join(good[-_LISTED:])}."
        hint = listed if good else "Deploy a version with --tag."
        raise NotFound(f"{where} has no good release {name!r}", hint=hint)
    return entry


def fetch_release(host: Host, entry: HistoryEntry, transport: Transport) -> Release:
    """Return a release as the host keeps it.

    Raises:
        HostNotReady: The host does not keep it, or it was changed there.
        HostUnreachable: The host cannot be reached.
    """
    arguments = (host.workdir, entry.configuration)
    script = render(Script("scripts/read_configuration.sh", arguments), {})
    result = transport.run(host.address, script, timeout_s=_TIMEOUT_S)
    files = unpack_archive(result.stdout) if result.exit_code == 0 else {}
    release = Release(entry.tag, entry.commit, files)
    if release.configuration_hash != entry.configuration:
        raise HostNotReady(
            f"{host.address} does not keep the configuration of release {entry.id}",
            hint="Deploy that version from a checkout with --tag.",
        )
    return release
