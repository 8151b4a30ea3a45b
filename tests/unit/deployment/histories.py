"""Histories of hosts: entries, and the lines that record them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from ktrdr.deployment.hosts.history import DeployKind, DeployOutcome, HistoryEntry
from ktrdr.deployment.hosts.host import DeployId

FIRST_DAY = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)


def history_entry(
    number: int, tag: str = "", outcome: DeployOutcome = DeployOutcome.DEPLOYED, **changes: Any
) -> HistoryEntry:
    """Return the entry of a deploy; its number gives it an id, a time, a tag, a configuration."""
    deploy = DeployId(f"r{number}", "ada@laptop", FIRST_DAY + timedelta(hours=number))
    return HistoryEntry(
        **{
            "deploy": deploy,
            "kind": DeployKind.DEPLOY,
            "service": "all",
            "tag": tag or f"sha-000000{number}",
            "commit": "c" * 40,
            "configuration": f"conf-{number}",
            "outcome": outcome,
            "duration_s": None if outcome is DeployOutcome.CUT_OFF else 2.5,
            **changes,
        }
    )


def history_lines(*entries: HistoryEntry) -> list[str]:
    """Return the lines that hosts record; a deploy that was cut off has no end."""
    lines = []
    for entry in entries:
        lines.append(entry.begun_event())
        if entry.outcome is not DeployOutcome.CUT_OFF:
            lines.append(entry.ended_event())
    return lines
