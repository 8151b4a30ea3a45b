"""Named SQL queries: each one is a file ``sql/NAME.sql`` in the package that uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, LiteralString

from psycopg import AsyncCursor
from psycopg.rows import DictRow

from ktrdr.database.pool import Connection

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class QuerySet:
    """SQL queries of one package, executed by name.

    Attributes:
        package: Package that holds the ``sql`` directory, such as ``ktrdr.operations``.
    """

    package: str

    async def execute(
        self, connection: Connection, name: str, /, *, prepare: bool | None = None, **values: Any
    ) -> AsyncCursor[DictRow]:
        """Execute a query and return its cursor.

        Args:
            connection: Connection to execute it on.
            name: File name without ``.sql``.
            prepare: True prepares the statement; see `ktrdr.database.pool`.
            values: Values of the query's placeholders.
        """
        return await connection.execute(
            _read_sql(self.package, name), values or None, prepare=prepare
        )

    async def fetch_one(self, connection: Connection, name: str, /, **values: Any) -> Row | None:
        """Execute a query and return its first row, or None without one."""
        return await (await self.execute(connection, name, **values)).fetchone()

    async def fetch_all(self, connection: Connection, name: str, /, **values: Any) -> list[Row]:
        """Execute a query and return all its rows."""
        return list(await (await self.execute(connection, name, **values)).fetchall())


@cache
def _read_sql(package: str, name: str) -> LiteralString:
    return resources.files(package).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
