"""Traces, sent to the collector by OTLP over gRPC without blocking."""

from __future__ import annotations

import threading
import uuid
from typing import Final

from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from ktrdr.settings import Settings

EXPORT_TIMEOUT_S: Final = 2
# Measured: without a limit, shutdown takes up to 30 s while the collector is down.
SHUTDOWN_TIMEOUT_S: Final = 3.0
UNTRACED_URLS: Final = "health,metrics,service-discovery,events"


def set_up_tracing(settings: Settings, service: str) -> TracerProvider:
    """Install the process's tracer provider; without an endpoint, spans are discarded.

    Args:
        settings: Endpoint, environment and version.
        service: Stable name of the service, such as ``ktrdr-backend``.
    """
    resource = Resource.create(
        {
            "service.name": service,
            "service.instance.id": str(uuid.uuid4()),
            "service.version": settings.image_tag,
            "deployment.environment.name": settings.environment,
        }
    )
    # By default the provider waits for the collector when the interpreter exits.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    if settings.otlp_endpoint:
        exporter = OTLPSpanExporter(
            endpoint=settings.otlp_endpoint,
            insecure=settings.otlp_endpoint.startswith("http://"),
            timeout=EXPORT_TIMEOUT_S,
        )
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    trace.set_tracer_provider(provider)
    return provider


def trace_requests(app: FastAPI, provider: TracerProvider) -> None:
    """Trace every request, except those that monitoring sends every few seconds."""
    FastAPIInstrumentor.instrument_app(
        app,
        tracer_provider=provider,
        excluded_urls=UNTRACED_URLS,
        exclude_spans=["receive", "send"],
    )


def shut_down_tracing(provider: TracerProvider) -> None:
    """Send the remaining spans, for a few seconds at most; call this last."""
    thread = threading.Thread(target=provider.shutdown, name="tracing-shutdown", daemon=True)
    thread.start()
    thread.join(SHUTDOWN_TIMEOUT_S)
