"""Consistency checks of the database after a chaos run."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime
from typing import Any

import psycopg

from ktrdr.settings import Settings

# Messages of contradictions, and the queries that find operation and value.
_CONTRADICTIONS = {
    "completed {} times": """
        SELECT operation_id, count(*) FROM operation_events
        WHERE kind = 'finished' AND status = 'completed'
        GROUP BY operation_id HAVING count(*) > 1
    """,
    "has {} more attempts than claims": """
        SELECT o.operation_id, o.attempt - e.started FROM operations AS o CROSS JOIN LATERAL (
            SELECT count(*) AS started FROM operation_events
            WHERE operation_id = o.operation_id AND kind = 'started'
        ) AS e WHERE o.attempt <> e.started
    """,
    "is {} at the end": """
        SELECT operation_id, status FROM operations
        WHERE status NOT IN ('completed', 'failed', 'cancelled')
    """,
    "is leased until {} although it has ended": """
        SELECT operation_id, lease_until FROM operations WHERE lease_until IS NOT NULL
    """,
    "has a checkpoint of step {} although it is completed": """
        SELECT operation_id, step FROM operation_checkpoints JOIN operations USING (operation_id)
        WHERE status = 'completed'
    """,
    "completed before its child {} had ended": """
        SELECT parent.operation_id, child.operation_id
        FROM operations AS parent JOIN operations AS child ON child.parent_id = parent.operation_id
        WHERE parent.status = 'completed' AND child.finished_at > parent.finished_at
    """,
}


class DatabaseChecks:
    """Checks of a database without the backend."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def now(self) -> datetime:
        """Return the time by the database's clock."""
        now: datetime = self._fetch("SELECT clock_timestamp()")[0][0]
        return now

    def contradictions(self) -> list[str]:
        """Return the operations whose rows contradict each other, each with the reason."""
        return [
            f"{operation_id}: {form.format(value)}"
            for form, statement in _CONTRADICTIONS.items()
            for operation_id, value in self._fetch(statement)
        ]

    def claims(self) -> dict[str, list[datetime]]:
        """Return the times of every operation's claims, in order."""
        claims: dict[str, list[datetime]] = defaultdict(list)
        for operation_id, at in self._fetch(
            "SELECT operation_id, at FROM operation_events WHERE kind = 'started' ORDER BY event_id"
        ):
            claims[operation_id].append(at)
        return dict(claims)

    def step(self, operation_id: str) -> int:
        """Return the step of an operation's newest checkpoint; 0 without one."""
        rows = self._fetch("SELECT operation_id, step FROM operation_checkpoints")
        return int(dict(rows).get(operation_id, 0))

    def ended(self) -> Counter[tuple[str, str]]:
        """Count the ends of operations by type and status; a resumed operation may have several."""
        rows = self._fetch(
            "SELECT o.operation_type, e.status, count(*) FROM operation_events AS e"
            " JOIN operations AS o USING (operation_id) WHERE e.kind = 'finished' GROUP BY 1, 2"
        )
        return Counter({(kind, status): number for kind, status, number in rows})

    def _fetch(self, statement: str) -> list[Any]:
        with psycopg.connect(
            host=self._settings.db_host,
            port=self._settings.db_port,
            dbname=self._settings.db_name,
            user=self._settings.db_user.reveal(),
            password=self._settings.db_password.reveal(),
        ) as connection:
            return connection.execute(statement.encode()).fetchall()
