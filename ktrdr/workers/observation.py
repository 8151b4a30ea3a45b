"""What is measured and traced of an operation while a worker has it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagate import extract
from opentelemetry.trace import Link, SpanKind

from ktrdr.operations.model import Claim
from ktrdr.schemas import OperationStatus
from ktrdr.telemetry import metrics

tracer = trace.get_tracer("ktrdr.workers")


@dataclass(slots=True)
class Outcome:
    """What became of the operation: its status, or None when another worker has it now."""

    status: OperationStatus | None = None


@contextmanager
def observed(claim: Claim) -> Iterator[Outcome]:
    """Measures and traces the block that runs a claimed operation.

    A first attempt continues the trace of whoever submitted the operation; a later one starts a
    trace of its own with a link to that, since hours may lie between them.
    """
    kind = claim.operation_type.value
    origin = extract({"traceparent": claim.traceparent} if claim.traceparent else {})
    first = claim.attempt == 1
    links = [] if first else [Link(trace.get_current_span(origin).get_span_context())]
    metrics.queue_wait.labels(kind).observe(claim.queued_s)
    metrics.worker_busy.set(1)
    if not first:
        metrics.retries.labels(kind).inc()
    outcome, began = Outcome(), time.monotonic()
    try:
        with tracer.start_as_current_span(
            f"run {kind}",
            context=origin if first else Context(),
            kind=SpanKind.CONSUMER,
            links=links,
            attributes={
                "ktrdr.operation.id": claim.lease.operation_id,
                "ktrdr.operation.type": kind,
                "ktrdr.operation.attempt": claim.attempt,
            },
        ) as span:
            yield outcome
            span.set_attribute("ktrdr.operation.status", outcome.status or "lost")
    finally:
        metrics.worker_busy.set(0)
        metrics.last_checkpoint.set(0)
    # What another worker goes on with is counted there.
    if outcome.status is not None and outcome.status.is_final:
        metrics.operations_finished.labels(kind, outcome.status.value).inc()
        metrics.operation_duration.labels(kind).observe(time.monotonic() - began)
