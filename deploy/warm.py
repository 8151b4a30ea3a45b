"""Import the libraries of backend and workers, so that the image contains their bytecode.

A container's root file system is read-only: a module that is not compiled here is compiled at every
start. Compiling all modules would add three times as much to the image. A module that is missing in
this list only delays the start.
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
    """Import all modules."""
    for module in MODULES:
        importlib.import_module(module)
    sys.stdout.write(f"imported {len(sys.modules)} modules\n")


if __name__ == "__main__":
    main()
