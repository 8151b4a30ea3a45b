"""Entry point of the backend: ``uvicorn --factory ktrdr.api.main:app``."""

from __future__ import annotations

import sys

from fastapi import FastAPI

from ktrdr.api.app import SERVICE_NAME, create_app
from ktrdr.errors import ConfigurationError
from ktrdr.settings import BackendSettings
from ktrdr.telemetry.logging import set_up_logging


def app() -> FastAPI:
    """Create the application with settings from the environment.

    Raises:
        SystemExit: The settings are invalid. The exit code is 3.
    """
    try:
        settings = BackendSettings.load()
    except ConfigurationError as exc:
        sys.stderr.write(f"{exc.message}\n{exc.hint}\n")
        raise SystemExit(exc.exit_code) from None
    set_up_logging(settings.log_level, service=SERVICE_NAME)
    return create_app(settings)
