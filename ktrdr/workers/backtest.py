"""Entry point of the backtest worker: ``uvicorn --factory ktrdr.workers.backtest:app``."""

from __future__ import annotations

from fastapi import FastAPI

from ktrdr.schemas import WorkerType
from ktrdr.workers.app import app_for


def app() -> FastAPI:
    """The application, with settings from the environment."""
    return app_for(WorkerType.BACKTESTING)
