"""Routes of health, metrics and service discovery; open inside the network."""

from __future__ import annotations

import time
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Header, Response

from ktrdr.api.errors import describe_errors
from ktrdr.api.state import StateDep
from ktrdr.database.migrate import contract_migrations
from ktrdr.schemas import BackendHealth, RequestModel
from ktrdr.telemetry import metrics

router = APIRouter()
metrics_router = APIRouter(tags=["monitoring"])


class TargetGroup(RequestModel):
    """Scrape targets that share labels, as Prometheus' HTTP service discovery defines them.

    Format: https://prometheus.io/docs/prometheus/latest/http_sd/
    """

    targets: list[str]
    labels: dict[str, str]


@router.get("/health", tags=["health"])
async def get_health(state: StateDep) -> BackendHealth:
    """Return version and health; the status is always 200, so that the version can be read."""
    problem, conditions = state.fitness.evaluate()
    is_down = any(each.name == "database" and each.problem for each in conditions)
    return BackendHealth(
        status="degraded" if problem else "ok",
        version=state.version,
        database="unavailable" if is_down else "ok",
        problem=problem,
        conditions=conditions,
        uptime_s=round(time.monotonic() - state.started_at, 3),
        contract_migrations=contract_migrations(),
    )


@router.get("/health/live", tags=["health"], status_code=204)
async def check_liveness() -> Response:
    """Return 204 if the process responds."""
    return Response(status_code=204)


@router.get("/health/ready", tags=["health"], status_code=204, responses=describe_errors())
async def check_readiness(state: StateDep) -> Response:
    """Return 204 if requests can be served, which needs the database and its schema."""
    if problem := state.probe.problem:
        raise problem
    return Response(status_code=204)


@router.get("/service-discovery", tags=["monitoring"], responses=describe_errors())
async def discover_workers(state: StateDep) -> list[TargetGroup]:
    """List the registered workers as scrape targets, a job per node, as ``ktrdr-workers-b``."""
    return [
        TargetGroup(
            targets=[urlsplit(worker.endpoint_url).netloc],
            labels={
                "job": f"ktrdr-{worker.node.partition('.')[0]}",
                "node": worker.node,
                "worker_id": worker.worker_id,
                "worker_type": worker.worker_type.value,
            },
        )
        for worker in await state.registry.list_workers()
    ]


@metrics_router.get("/metrics", include_in_schema=False)
async def get_metrics(state: StateDep, accept: Annotated[str, Header()] = "") -> Response:
    """Return the metrics of this process."""
    state.fitness.evaluate()
    metrics.shared_size.set(state.shared.usage.size)
    metrics.shared_free.set(state.shared.usage.free)
    body, content_type = metrics.render_metrics(accept)
    return Response(body, media_type=content_type)
