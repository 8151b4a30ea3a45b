"""Metrics and traces of an operation while a worker runs it."""

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
class AttemptOutcome:
    """Status of the operation after an attempt, or None if its lease was lost."""

    status: OperationStatus | None = None


@contextmanager
def instrumented(claim: Claim) -> Iterator[AttemptOutcome]:
    """Measure and trace the block that runs a claimed operation.

    The first attempt continues the trace of the submission. A later one starts a trace of its own
    with a link to it, because hours may lie between them.
    """
    operation_type = claim.operation_type.value
    origin = extract({"traceparent": claim.traceparent} if claim.traceparent else {})
    is_first = claim.attempt == 1
    links = [] if is_first else [Link(trace.get_current_span(origin).get_span_context())]
    metrics.queue_wait.labels(operation_type).observe(claim.queued_s)
    metrics.worker_busy.set(1)
    if not is_first:
        metrics.retries.labels(operation_type).inc()
    outcome, start = AttemptOutcome(), time.monotonic()
    try:
        with tracer.start_as_current_span(
            f"run {operation_type}",
            context=origin if is_first else Context(),
            kind=SpanKind.CONSUMER,
            links=links,
            attributes={
                "ktrdr.operation.id": claim.lease.operation_id,
                "ktrdr.operation.type": operation_type,
                "ktrdr.operation.attempt": claim.attempt,
            },
        ) as span:
            yield outcome
            span.set_attribute("ktrdr.operation.status", outcome.status or "lost")
    finally:
        metrics.worker_busy.set(0)
        metrics.last_checkpoint.set(0)
    # The worker that ends the operation counts it.
    if outcome.status is not None and outcome.status.is_final:
        metrics.operations_finished.labels(operation_type, outcome.status.value).inc()
        metrics.operation_duration.labels(operation_type).observe(time.monotonic() - start)
