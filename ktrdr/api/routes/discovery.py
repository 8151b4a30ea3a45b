"""What Prometheus asks for; open inside the network."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Response

from ktrdr.api.errors import documented
from ktrdr.api.state import BackendState
from ktrdr.fleet.discovery import TargetGroup, target_groups
from ktrdr.telemetry import metrics

router = APIRouter(tags=["monitoring"])


@router.get("/api/v1/service-discovery", responses=documented())
async def service_discovery(state: BackendState) -> list[TargetGroup]:
    """The registered workers as scrape targets."""
    return target_groups(await state.registry.workers())


@router.get("/metrics", include_in_schema=False)
async def scrape(accept: Annotated[str, Header()] = "") -> Response:
    """This process's metrics."""
    body, content_type = metrics.expose(accept)
    return Response(body, media_type=content_type)
