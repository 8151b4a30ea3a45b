"""Imports the libraries that backend and workers import, so that their bytecode is in the image.

A container's root file system is read-only: what is not compiled here is compiled at every start.
Compiling everything instead would add three times as much to the image. A module missing from this
list costs time at start, nothing else.
"""

from __future__ import annotations

import importlib
import sys
from typing import Final

MODULES: Final = (
    "bt",
    "click",
    "fastapi",
    "multiprocessing.pool",
    "multiprocessing.spawn",
    "numpy",
    "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
    "opentelemetry.instrumentation.fastapi",
    "opentelemetry.sdk.trace.export",
    "pandas",
    "procrastinate",
    "prometheus_client.openmetrics.exposition",
    "psycopg",
    "psycopg_pool",
    "pydantic",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.neural_network",
    "sklearn.preprocessing",
    "skops.io",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.main",
    "uvicorn.protocols.http.h11_impl",
)


def main() -> None:
    """Imports them all."""
    for module in MODULES:
        importlib.import_module(module)
    sys.stdout.write(f"imported {len(sys.modules)} modules\n")


if __name__ == "__main__":
    main()
