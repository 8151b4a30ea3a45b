"""Options of the commands that deploy, with their defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from ktrdr.errors import UsageError

# Each host costs the operator's machine a connection and its processes.
DEFAULT_PARALLEL: Final = 32
DEFAULT_HEALTH_TIMEOUT_S: Final = 120.0
DEFAULT_DRAIN_TIMEOUT_S: Final = 900.0
DEFAULT_SOAK_S: Final = 60.0

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class DeployOptions:
    """Options of one deploy; each field is an option of the command line.

    Attributes:
        tag: Image tag; None for that of the commit that is checked out.
        profiles: Further Compose profiles to start.
        scale: Workers of each type; None for the inventory's value.
        dry_run: Whether the scripts are only printed.
        skip_validation: Whether the check of the host is skipped.
        health_timeout: Maximum wait for healthy services (s).
        confirm_within: Time after which a host goes back by itself unless the deploy is confirmed,
            from the release's application (s); None for a minute more than `health_timeout`.
        is_detached: Whether the hosts finish the deploy by themselves.
        rollback: Whether a host rolls back automatically when the release fails.
        lock_wait: Maximum wait for another owner of a host's lock (s).
        drain: Whether workers finish their operations before they are replaced.
        drain_timeout: Maximum wait for that (s).
        parallel: Number of hosts that are deployed at the same time.
        serial: Whether worker nodes are deployed one after the other.
        canary: Number of worker nodes that are deployed before all others; 0 for none.
        batch: Worker nodes that are deployed at the same time, as ``N`` or ``N%`` of all; empty for
            all.
        soak: Time for which each batch is watched before the next (s); None for the default.
        on_failure: What happens to deployed hosts if another fails: ``keep`` or ``rollback``.
        skip_unreachable: Whether worker nodes that are off are skipped.
        behind: Whether hosts that run the release already are left out.
        yes: Whether confirmations are skipped.
        as_json: Whether events and result are printed as JSON lines.
        verbose: 1 shows Compose's output, 2 all output of hosts.
        inventory: Inventory file; None for the one in the checkout.
        settings: Overrides of inventory values, ``KEY=VALUE`` each.
    """

    tag: str | None = None
    profiles: tuple[str, ...] = ()
    scale: int | None = None
    dry_run: bool = False
    skip_validation: bool = False
    health_timeout: float = DEFAULT_HEALTH_TIMEOUT_S
    confirm_within: float | None = None
    is_detached: bool = False
    rollback: bool = True
    lock_wait: float = 0.0
    drain: bool = False
    drain_timeout: float = DEFAULT_DRAIN_TIMEOUT_S
    parallel: int = DEFAULT_PARALLEL
    serial: bool = False
    canary: int = 0
    batch: str = ""
    soak: float | None = None
    on_failure: str = "keep"
    skip_unreachable: bool = False
    behind: bool = False
    yes: bool = False
    as_json: bool = False
    verbose: int = 0
    inventory: Path | None = None
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.on_failure == "rollback" and not self.rollback:
            raise UsageError(
                "--no-rollback contradicts --together and --on-failure rollback",
                hint="Omit one of them.",
            )

    @property
    def soak_s(self) -> float:
        """Return the time for which each batch is watched (s)."""
        default = DEFAULT_SOAK_S if self.canary or self.batch else 0.0
        return default if self.soak is None else self.soak

    def split(self, nodes: Sequence[_Item]) -> list[list[_Item]]:
        """Split worker nodes into batches: the canaries, then equal parts of the others."""
        batch = "1" if self.serial else self.batch or "100%"
        size = int(batch.removesuffix("%"))
        if batch.endswith("%"):
            size = max(1, -(-size * len(nodes) // 100))
        starts = range(self.canary, len(nodes), size)
        batches = [nodes[: self.canary], *(nodes[start : start + size] for start in starts)]
        return [list(each) for each in batches if each]
