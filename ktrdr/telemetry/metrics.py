"""All metrics of the runtime. No label holds an operation's id."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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

_counter = partial(Counter, registry=REGISTRY)
_gauge = partial(Gauge, registry=REGISTRY)
_histogram = partial(Histogram, registry=REGISTRY)

build_info = _gauge(
    "ktrdr_build_info",
    "Always 1; its labels name the running version.",
    ["service", "image_tag", "commit"],
)

condition = _gauge(
    "ktrdr_condition",
    "1 while a condition of this service's fitness holds, 0 while it does not.",
    ["condition"],
)

# ---------------------------------------------------------------- backend
http_requests = _counter(
    "ktrdr_http_requests", "Answered requests by route and status.", ["method", "route", "status"]
)
http_request_duration = _histogram(
    "ktrdr_http_request_duration_seconds",
    "Time to answer a request.",
    ["method", "route"],
    buckets=REQUEST_BUCKETS,
)
operations_submitted = _counter(
    "ktrdr_operations_submitted", "Operations accepted.", ["operation_type"]
)
operations_unfinished = _gauge(
    "ktrdr_operations_unfinished",
    "Operations that are pending or running.",
    ["operation_type", "status"],
)
oldest_pending = _gauge(
    "ktrdr_operations_oldest_pending_seconds",
    "Age of the oldest pending operation.",
    ["operation_type"],
)
workers = _gauge(
    "ktrdr_workers", "Registered workers by type and status.", ["worker_type", "status"]
)
worker_health_checks = _counter(
    "ktrdr_worker_health_checks", "Health checks of workers by outcome.", ["outcome"]
)
leases_expired = _counter(
    "ktrdr_leases_expired", "Leases that expired because a worker stopped renewing them."
)
failed_authentications = _counter(
    "ktrdr_failed_authentications", "Requests with a missing, invalid, expired or revoked token."
)
database_up = _gauge("ktrdr_database_up", "1 if the last query of the database succeeded.")
shared_free = _gauge("ktrdr_shared_free_bytes", "Free space in the shared directory.")
shared_size = _gauge("ktrdr_shared_size_bytes", "Size of the shared directory's file system.")

# ---------------------------------------------------------------- worker
operations_finished = _counter(
    "ktrdr_operations_finished",
    "Operations that this worker ended, by status.",
    ["operation_type", "status"],
)
operation_duration = _histogram(
    "ktrdr_operation_duration_seconds",
    "Time this worker spent on an operation.",
    ["operation_type"],
    buckets=WORK_BUCKETS,
)
queue_wait = _histogram(
    "ktrdr_queue_wait_seconds",
    "Time between being queued and being claimed.",
    ["operation_type"],
    buckets=WAIT_BUCKETS,
)
checkpoints = _counter("ktrdr_checkpoints", "Checkpoints saved.", ["operation_type"])
last_checkpoint = _gauge(
    "ktrdr_last_checkpoint_timestamp_seconds",
    "Time of the running operation's last checkpoint; 0 while idle.",
)
lease_losses = _counter("ktrdr_lease_losses", "Leases that this worker lost.")
retries = _counter(
    "ktrdr_operation_retries",
    "Operations claimed for a second or later attempt.",
    ["operation_type"],
)
attempt_failures = _counter(
    "ktrdr_operation_setbacks",
    "Failed attempts that may be retried, by kind of failure.",
    ["operation_type", "setback"],
)
worker_busy = _gauge("ktrdr_worker_busy", "1 while this worker runs an operation.")
worker_registered = _gauge("ktrdr_worker_registered", "1 while this worker is registered.")


def record_condition(name: str, holds: bool) -> None:
    """Record whether a condition of this service's fitness holds."""
    condition.labels(name).set(int(holds))


def render_metrics(accept: str) -> tuple[bytes, str]:
    """Return the metrics as text, and its content type.

    Args:
        accept: Request's ``Accept`` header. OpenMetrics is returned on request, because only it
            carries exemplars.
    """
    if "application/openmetrics-text" in accept:
        render: Callable[[CollectorRegistry], bytes] = openmetrics.generate_latest
        return render(REGISTRY), openmetrics.CONTENT_TYPE_LATEST
    return generate_latest(REGISTRY), CLASSIC_CONTENT_TYPE
