"""Every metric of the runtime, by name. No label ever holds an operation's id."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

CLASSIC_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
WORK_BUCKETS: Final = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 28800, 86400)
WAIT_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
REQUEST_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

build_info = Gauge(
    "ktrdr_build_info",
    "1, labelled with what runs.",
    ["service", "image_tag", "commit"],
    registry=REGISTRY,
)

# ---------------------------------------------------------------- backend
http_requests = Counter(
    "ktrdr_http_requests",
    "Requests answered, by route and status.",
    ["method", "route", "status"],
    registry=REGISTRY,
)
http_request_duration = Histogram(
    "ktrdr_http_request_duration_seconds",
    "Time to answer a request.",
    ["method", "route"],
    buckets=REQUEST_BUCKETS,
    registry=REGISTRY,
)
operations_submitted = Counter(
    "ktrdr_operations_submitted",
    "Operations accepted.",
    ["operation_type"],
    registry=REGISTRY,
)
operations_unfinished = Gauge(
    "ktrdr_operations_unfinished",
    "Operations that are pending or running.",
    ["operation_type", "status"],
    registry=REGISTRY,
)
oldest_pending = Gauge(
    "ktrdr_operations_oldest_pending_seconds",
    "Age of the operation that has waited longest.",
    ["operation_type"],
    registry=REGISTRY,
)
workers = Gauge(
    "ktrdr_workers",
    "Registered workers, by what the registry thinks of them.",
    ["worker_type", "status"],
    registry=REGISTRY,
)
worker_health_checks = Counter(
    "ktrdr_worker_health_checks",
    "Health checks made of workers.",
    ["outcome"],
    registry=REGISTRY,
)
leases_expired = Counter(
    "ktrdr_leases_expired",
    "Operations taken from workers that fell silent.",
    registry=REGISTRY,
)
failed_authentications = Counter(
    "ktrdr_failed_authentications",
    "Requests with a token that is missing, bad, expired or revoked.",
    registry=REGISTRY,
)
database_up = Gauge(
    "ktrdr_database_up", "Whether the last query of the database succeeded.", registry=REGISTRY
)
shared_free = Gauge(
    "ktrdr_shared_free_bytes", "Room left in the shared directory.", registry=REGISTRY
)
shared_size = Gauge(
    "ktrdr_shared_size_bytes", "Size of the file system it is on.", registry=REGISTRY
)

# ---------------------------------------------------------------- worker
operations_finished = Counter(
    "ktrdr_operations_finished",
    "Operations that this worker ended, by how.",
    ["operation_type", "status"],
    registry=REGISTRY,
)
operation_duration = Histogram(
    "ktrdr_operation_duration_seconds",
    "Time this worker spent on an operation.",
    ["operation_type"],
    buckets=WORK_BUCKETS,
    registry=REGISTRY,
)
queue_wait = Histogram(
    "ktrdr_queue_wait_seconds",
    "Time between being queued and being claimed.",
    ["operation_type"],
    buckets=WAIT_BUCKETS,
    registry=REGISTRY,
)
checkpoints = Counter(
    "ktrdr_checkpoints", "Checkpoints saved.", ["operation_type"], registry=REGISTRY
)
last_checkpoint = Gauge(
    "ktrdr_last_checkpoint_timestamp_seconds",
    "When the running operation was last checkpointed; 0 while idle.",
    registry=REGISTRY,
)
lease_losses = Counter(
    "ktrdr_lease_losses",
    "Times this worker found that its operation was no longer its own.",
    registry=REGISTRY,
)
retries = Counter(
    "ktrdr_operation_retries",
    "Operations claimed for a second or later attempt.",
    ["operation_type"],
    registry=REGISTRY,
)
setbacks = Counter(
    "ktrdr_operation_setbacks",
    "Attempts that ended here without an outcome, by why.",
    ["operation_type", "setback"],
    registry=REGISTRY,
)
worker_busy = Gauge("ktrdr_worker_busy", "1 while an operation runs here.", registry=REGISTRY)
worker_registered = Gauge(
    "ktrdr_worker_registered", "1 while the backend knows this worker.", registry=REGISTRY
)


def watch_shared_directory(path: Path) -> None:
    """Lets every scrape look at how much room ``path`` has; 0 where it cannot be looked at."""

    def usage(field: str) -> float:
        try:
            return float(getattr(shutil.disk_usage(path), field))
        except OSError:
            return 0.0

    shared_free.set_function(lambda: usage("free"))
    shared_size.set_function(lambda: usage("total"))


def expose(accept: str) -> tuple[bytes, str]:
    """The metrics as text, and its content type.

    Args:
        accept: The request's ``Accept`` header; OpenMetrics is answered when it is asked for,
            since only that carries exemplars.
    """
    if "application/openmetrics-text" in accept:
        render: Callable[[CollectorRegistry], bytes] = openmetrics.generate_latest
        return render(REGISTRY), openmetrics.CONTENT_TYPE_LATEST
    return generate_latest(REGISTRY), CLASSIC_CONTENT_TYPE
