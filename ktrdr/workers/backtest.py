"""Entry point of the backtest worker: ``uvicorn --factory ktrdr.workers.backtest:app``."""

from __future__ import annotations

from fastapi import FastAPI

from ktrdr.schemas import WorkerType
from ktrdr.workers.app import create_app


def app() -> FastAPI:
    """Create the application with settings from the environment."""
    return create_app(WorkerType.BACKTESTING)
