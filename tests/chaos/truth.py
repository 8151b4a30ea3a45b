"""What the tables of a database say after a run, and what in them must not be."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime
from typing import Any

import psycopg

from ktrdr.settings import Settings

# What contradicts itself, and how to find it: operation and value.
_CONTRADICTIONS = {
    "completed {} times": """
        SELECT operation_id, count(*) FROM operation_events
        WHERE kind = 'finished' AND status = 'completed'
        GROUP BY operation_id HAVING count(*) > 1
    """,
    "has {} attempts more than it was started": """
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
    "was collected before its part {} had ended": """
        SELECT w.operation_id, p.operation_id
        FROM operations AS w JOIN operations AS p ON p.parent_id = w.operation_id
        WHERE w.status = 'completed' AND p.finished_at > w.finished_at
    """,
}


class Tables:
    """A database, looked at past the backend."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def now(self) -> datetime:
        """The time by the database's clock."""
        found: datetime = self._all("SELECT clock_timestamp()")[0][0]
        return found

    def contradictions(self) -> list[str]:
        """Operations whose rows cannot all be true, each with the reason."""
        return [
            f"{operation_id}: {form.format(value)}"
            for form, statement in _CONTRADICTIONS.items()
            for operation_id, value in self._all(statement)
        ]

    def starts(self) -> dict[str, list[datetime]]:
        """When each operation was claimed, in order."""
        found: dict[str, list[datetime]] = defaultdict(list)
        for operation_id, at in self._all(
            "SELECT operation_id, at FROM operation_events WHERE kind = 'started' ORDER BY event_id"
        ):
            found[operation_id].append(at)
        return dict(found)

    def step(self, operation_id: str) -> int:
        """The step of an operation's newest checkpoint; 0 if it has none."""
        rows = self._all("SELECT operation_id, step FROM operation_checkpoints")
        return int(dict(rows).get(operation_id, 0))

    def ended(self) -> Counter[tuple[str, str]]:
        """How many operations ended, by type and status, every end of one that was resumed too."""
        rows = self._all(
            "SELECT o.operation_type, e.status, count(*) FROM operation_events AS e"
            " JOIN operations AS o USING (operation_id) WHERE e.kind = 'finished' GROUP BY 1, 2"
        )
        return Counter({(kind, status): number for kind, status, number in rows})

    def _all(self, statement: str) -> list[Any]:
        with psycopg.connect(
            host=self._settings.db_host,
            port=self._settings.db_port,
            dbname=self._settings.db_name,
            user=self._settings.db_user.reveal(),
            password=self._settings.db_password.reveal(),
        ) as connection:
            return connection.execute(statement.encode()).fetchall()
