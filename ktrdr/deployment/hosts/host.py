"""Hosts, their configuration, and the identity of a deploy to them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ktrdr.errors import UsageError


@dataclass(frozen=True, slots=True)
class Host:
    """A machine that a stack is deployed to.

    Attributes:
        name: Name that the operator uses, such as ``core`` or ``workers B``.
        address: Name that ssh connects to.
        workdir: Directory that holds the stack's configuration.
        stack: Stack that runs there, such as ``core``.
        project: Compose project of that stack.
        secrets_directory: Directory in its memory for the secrets of its containers.
        managed_directories: Directories in which a deploy removes files of no release.
        further_secrets: Secret variables of its containers that the release does not know.
        node: Name of the worker node; empty for a host that is not one of several.
        dns_name: Name or address in the network; empty if it is `address`.
    """

    name: str
    address: str
    workdir: str
    stack: str
    project: str
    secrets_directory: str
    managed_directories: tuple[str, ...] = ()
    further_secrets: tuple[str, ...] = ()
    node: str = ""
    dns_name: str = ""

    @property
    def network_name(self) -> str:
        """Return the name or address by which other hosts reach it."""
        return self.dns_name or self.address

    @property
    def short_name(self) -> str:
        """Return the name without its stack, as log lines show it."""
        return self.node or self.name

    @property
    def secrets_root(self) -> str:
        """Return the directory above the secrets of all stacks, which must be in memory."""
        return self.secrets_directory.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class DeployId:
    """Identity of one deploy, or of other work on hosts.

    Attributes:
        id: Unique and sorted by time; all hosts of one command share it.
        who: User and machine.
        at: Time of the request, aware.
    """

    id: str
    who: str
    at: datetime


@dataclass(frozen=True, slots=True)
class HostConfig:
    """Configuration that a release is deployed with on one host.

    Attributes:
        host: The host.
        settings: Variables for Compose that are not secret.
        secrets: Names of the variables for Compose that are secret.
        apply_secrets: Names of further secrets, for the script that applies the release.
        shared_directory: Directory that its containers share with other hosts.
        is_share_mounted: Whether that directory comes from another host.
        is_share_external: Whether that host is none of the inventory.
        container_uid: User that the containers run as.
        secrets_in_memory: Whether containers read secrets from files in the host's memory.
        scale_profiles: Compose profiles that the inventory selects.
        max_clock_skew_s: Largest difference between the clocks of host and operator (s).
        rank: Position in a rollout: hosts of a lower rank are deployed first.
        peers: Names of other hosts that its containers resolve.
        files: Compose files that the release has on this host alone.
        is_often_off: Whether a rollout goes on without the host if it is off.
        unwanted: Services to remove if they exist and no profile selects them, with the reasons.
        required_url: URL that its containers need to become healthy; empty for none.
    """

    host: Host
    settings: tuple[tuple[str, str], ...]
    secrets: tuple[str, ...]
    apply_secrets: tuple[str, ...]
    shared_directory: str
    is_share_mounted: bool
    is_share_external: bool
    container_uid: int
    secrets_in_memory: bool
    scale_profiles: tuple[str, ...]
    max_clock_skew_s: float
    rank: int
    peers: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    is_often_off: bool = False
    unwanted: tuple[tuple[str, str], ...] = ()
    required_url: str = ""


def unknown_name_error(kind: str, name: str, valid: Iterable[str]) -> UsageError:
    """Return the error for an unknown name, with the valid names and the one closest to it.

    Args:
        kind: Kind of thing that was named, such as node, service or profile.
        name: The unknown name.
        valid: The known names.
    """
    names = list(valid)
    by_lower_case = {known.lower(): known for known in names}
    nearest = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.5)
    guess = f"; did you mean {by_lower_case[nearest[0]]}?" if nearest else ""
    return UsageError(
        f"there is no {kind} {name!r}{guess}",
        hint=f"Valid names: {', '.join(names)}." if names else f"No {kind}s exist here.",
    )
