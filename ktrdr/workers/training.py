"""Entry point of the training worker: ``uvicorn --factory ktrdr.workers.training:app``."""

from __future__ import annotations

from fastapi import FastAPI

from ktrdr.schemas import WorkerType
from ktrdr.workers.app import create_app


def app() -> FastAPI:
    """Create the application with settings from the environment."""
    return create_app(WorkerType.TRAINING)
