"""A stand-in for Jaeger, for the lab only.

A real OTLP receiver (gRPC, port 4317) that keeps the latest traces in memory. It serves those parts
of Jaeger's query API (port 16686) that 2.20 and later versions have, /api/v3/services and
/api/traces/ID, and its health (port 13133).
"""

from __future__ import annotations

import html
import json
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service_grpc

MAX_TRACES = 5000
HEALTH_PORT = 13133
KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}


class Store:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._traces: OrderedDict[str, list[dict[str, Any]]] = OrderedDict()

    def add(self, spans: list[dict[str, Any]]) -> None:
        with self._lock:
            for span in spans:
                self._traces.setdefault(span["traceID"], []).append(span)
            while len(self._traces) > MAX_TRACES:
                self._traces.popitem(last=False)

    def services(self) -> list[str]:
        with self._lock:
            return sorted({s["service"] for spans in self._traces.values() for s in spans})

    def traces(self, limit: int) -> list[dict[str, Any]]:
        with self._lock:
            latest = list(islice(reversed(self._traces.items()), limit))
        return [to_jaeger(trace, spans) for trace, spans in latest]

    def trace(self, trace_id: str) -> list[dict[str, Any]]:
        with self._lock:
            spans = list(self._traces.get(trace_id, ()))
        return [to_jaeger(trace_id, spans)] if spans else []


def to_jaeger(trace_id: str, spans: list[dict[str, Any]]) -> dict[str, Any]:
    names = sorted({span["service"] for span in spans})
    keys = {name: f"p{number}" for number, name in enumerate(names, start=1)}
    jaeger_spans = []
    for span in spans:
        entry = {k: v for k, v in span.items() if k != "service"}
        jaeger_spans.append({**entry, "processID": keys[span["service"]]})
    processes = {key: {"serviceName": name, "tags": []} for name, key in keys.items()}
    return {"traceID": trace_id, "spans": jaeger_spans, "processes": processes}


def attribute_value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind and not kind.startswith(("array", "kv")) else str(value)


def parse_spans(request: Any) -> list[dict[str, Any]]:
    spans = []
    for resource in request.resource_spans:
        attributes = {a.key: attribute_value(a.value) for a in resource.resource.attributes}
        name = str(attributes.get("service.name", "unknown"))
        for scope in resource.scope_spans:
            for span in scope.spans:
                tags = [{"key": a.key, "value": attribute_value(a.value)} for a in span.attributes]
                tags.append({"key": "span.kind", "value": KINDS.get(span.kind, "unspecified")})
                parent = span.parent_span_id.hex()
                references = [{"refType": "CHILD_OF", "spanID": parent}] if parent else []
                references += [
                    {
                        "refType": "FOLLOWS_FROM",
                        "traceID": x.trace_id.hex(),
                        "spanID": x.span_id.hex(),
                    }
                    for x in span.links
                ]
                spans.append(
                    {
                        "traceID": span.trace_id.hex(),
                        "spanID": span.span_id.hex(),
                        "operationName": span.name,
                        "references": references,
                        "startTime": span.start_time_unix_nano // 1000,
                        "duration": (span.end_time_unix_nano - span.start_time_unix_nano) // 1000,
                        "tags": tags,
                        "service": name,
                    }
                )
    return spans


class Receiver(service_grpc.TraceServiceServicer):
    def __init__(self, store: Store) -> None:
        self._store = store

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002  # the protocol's name
        self._store.add(parse_spans(request))
        return service.ExportTraceServiceResponse()


def page(store: Store) -> str:
    rows = []
    for trace in store.traces(limit=50):
        root = min(trace["spans"], key=lambda span: span["startTime"])
        services = ", ".join(p["serviceName"] for p in trace["processes"].values())
        name, spans = html.escape(root["operationName"]), len(trace["spans"])
        rows.append(
            f'<tr><td><a href="/api/traces/{trace["traceID"]}">{name}</a>'
            f"<td>{html.escape(services)}<td>{spans}<td>{root['duration'] / 1000:.1f} ms"
        )
    return (
        '<!doctype html><meta charset="utf-8"><title>Jaeger (stand-in)</title>'
        "<style>body{font:16px sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "td,th{padding:.25rem 1rem .25rem 0;text-align:left}</style>"
        "<h1>A stand-in for Jaeger</h1><p>The lab cannot download the original. Latest traces:</p>"
        f"<table><tr><th>trace<th>services<th>spans<th>duration{''.join(rows)}</table>"
    )


def make_handler(store: Store, *, is_health: bool = False) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path == "/api/v3/services":
                self.answer({"services": store.services()})
            elif parts.path.startswith("/api/traces/"):
                trace = store.trace(parts.path.rpartition("/")[2])
                self.answer({"data": trace}, 200 if trace else 404)
            elif is_health and parts.path == "/status":
                self.answer({"healthy": True, "status": "StatusOK"})
            elif parts.path in ("/", "/search"):
                self.write(200, "text/html; charset=utf-8", page(store).encode())
            else:
                self.answer({"errors": [{"msg": "not supported by this stand-in"}]}, 404)

        def answer(self, value: Any, status: int = 200) -> None:
            self.write(status, "application/json", json.dumps(value, default=str).encode())

        def write(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Log nothing, because health checks arrive every few seconds."""

    return Handler


def main() -> None:
    store = Store()
    server = grpc.server(ThreadPoolExecutor(max_workers=4))
    service_grpc.add_TraceServiceServicer_to_server(Receiver(store), server)
    server.add_insecure_port("0.0.0.0:4317")
    server.start()
    health = ThreadingHTTPServer(("127.0.0.1", HEALTH_PORT), make_handler(store, is_health=True))
    threading.Thread(target=health.serve_forever, daemon=True).start()
    print("stand-in for Jaeger", flush=True)
    ThreadingHTTPServer(("0.0.0.0", 16686), make_handler(store)).serve_forever()


if __name__ == "__main__":
    main()
