"""Warnings after a deploy that rotated secrets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

_HOUR_S: Final = 3600


def rotation_warnings(
    sections: Mapping[str, Sequence[str]],
    *,
    nodes: Sequence[str],
    later_nodes: Sequence[str],
    overlap_s: int,
) -> Iterator[str]:
    """Yield warnings for the operator after secrets were rotated, one sentence each.

    Args:
        sections: Output of the script that applied the release.
        nodes: Worker nodes that use the rotated secrets.
        later_nodes: Worker nodes that the same command deploys after this host.
        overlap_s: Time that tokens signed with the former ``jwt_secret`` stay valid (s).
    """
    rotated = {line.partition(" ")[0]: line for line in sections.get("rotated", ())}
    shared = [name for name in ("db_password", "jwt_secret") if name in rotated]
    remaining = [node for node in nodes if node not in later_nodes]
    if shared and remaining:
        are_all = len(remaining) == len(nodes) > 1
        targets = ["all"] if are_all else remaining
        commands = " and ".join(f"`ktrdr deploy workers {target}`" for target in targets)
        workers = "the workers" if are_all else f"the workers of {', '.join(remaining)}"
        yield f"{workers} still use the former {' and '.join(shared)}: run {commands}"
    if "jwt_secret" in rotated and overlap_s:
        yield (
            "tokens signed with the former jwt_secret stay valid for another "
            f"{overlap_s // _HOUR_S} h: replace them before then with `ktrdr token create --save`"
        )
    elif "jwt_secret" in rotated:
        yield "tokens signed with the former jwt_secret are no longer valid"
    if rotated.get("grafana_password", "").endswith("unknown"):
        yield (
            "Grafana's password could not be compared with the vault, because Grafana or the "
            "backend did not respond; the next deploy of the core checks it again"
        )
