"""Health: open to everybody inside the network."""

from __future__ import annotations

import time
from typing import Literal

from fastapi import APIRouter, Response

from ktrdr.api.errors import documented
from ktrdr.api.state import BackendState, State
from ktrdr.database.migrate import contracting
from ktrdr.database.pool import autocommit
from ktrdr.errors import DatabaseUnavailable
from ktrdr.schemas import BackendHealth

router = APIRouter(prefix="/health", tags=["health"])


@router.get("")
async def health(state: BackendState) -> BackendHealth:
    """What runs here and whether it can work; always 200, so that the version can be read."""
    database = await _database(state)
    return BackendHealth(
        status="ok" if database == "ok" else "degraded",
        version=state.version,
        database=database,
        uptime_s=round(time.monotonic() - state.started, 3),
        contracts=contracting(),
    )


@router.get("/live", status_code=204)
async def live() -> Response:
    """The process answers."""
    return Response(status_code=204)


@router.get("/ready", status_code=204, responses=documented())
async def ready(state: BackendState) -> Response:
    """Requests can be served: the database answers."""
    async with autocommit(state.pool) as connection:
        await connection.execute("SELECT 1")
    return Response(status_code=204)


async def _database(state: State) -> Literal["ok", "unavailable"]:
    try:
        async with autocommit(state.pool) as connection:
            await connection.execute("SELECT 1")
    except DatabaseUnavailable:
        return "unavailable"
    return "ok"
