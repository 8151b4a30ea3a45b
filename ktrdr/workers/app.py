"""The worker's HTTP server, and the life of everything behind it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version as installed_version
from typing import Annotated, Final

from fastapi import FastAPI, Header, Query, Response
from fastapi.responses import JSONResponse
from procrastinate.exceptions import ConnectorException

from ktrdr.database.migrate import contracting
from ktrdr.database.pool import make_pool, wait_until_reachable
from ktrdr.errors import ConfigurationError, DatabaseUnavailable
from ktrdr.operations.drains import Drains
from ktrdr.operations.files import read_from
from ktrdr.operations.leases import LeaseBook
from ktrdr.operations.queue import serve, working_app
from ktrdr.schemas import Problem, WorkerHealth, WorkerRegistration, WorkerType
from ktrdr.settings import WorkerSettings
from ktrdr.telemetry import metrics
from ktrdr.telemetry.logging import set_up_logging
from ktrdr.telemetry.tracing import set_up_tracing, shut_down_tracing, trace_requests
from ktrdr.workers.registration import Registrar
from ktrdr.workers.supervision import Supervisor

logger = logging.getLogger(__name__)

SERVICE: Final = {
    WorkerType.BACKTESTING: "ktrdr-backtest-worker",
    WorkerType.TRAINING: "ktrdr-training-worker",
}
# One connection listens, one serves the queue's own queries, the rest are for leases.
POOL_SIZE: Final = 4


def worker_id_of(settings: WorkerSettings) -> str:
    """The configured id, or type, host and port of the public URL: stable over restarts."""
    if settings.worker_id:
        return settings.worker_id
    url = settings.worker_public_base_url
    host = (url.host or "unknown").partition(".")[0]
    return f"{settings.worker_type}-{host}-{url.port}"


class Worker:
    """Everything a worker consists of, with one start and one stop."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.worker_id = worker_id_of(settings)
        self._started = time.monotonic()
        self._pool = make_pool(settings, self.worker_id, max_size=POOL_SIZE)
        self.supervisor = Supervisor(
            settings, self.worker_id, LeaseBook(self._pool), Drains(self._pool)
        )
        self.registrar = Registrar(settings, self._registration)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Registers and works inside the block; makes way in an orderly fashion at its end."""
        registering = asyncio.create_task(self.registrar.keep_registered())
        serving = asyncio.create_task(self._serve())
        try:
            yield
        finally:
            self.supervisor.stop()
            await _cancelled(serving)
            await _cancelled(registering)
            await self.registrar.deregister()
            await self._pool.close()

    def health(self) -> WorkerHealth:
        """What ``GET /health`` answers."""
        running = self.supervisor.running
        return WorkerHealth(
            status="busy" if running else "idle",
            worker_id=self.worker_id,
            worker_type=self.settings.worker_type,
            version=self.settings.image_tag,
            commit=self.settings.ktrdr_commit,
            current_operation_id=running.operation_id if running else None,
            registered=self.registrar.registered,
            registration_error=self.registrar.error,
            uptime_s=round(time.monotonic() - self._started, 3),
            contracts=contracting(),
        )

    async def _serve(self) -> None:
        """Serves the queue, and starts over whenever the database was away."""
        queue = working_app(self._pool, self.supervisor.run)
        opened = False
        while True:
            try:
                await wait_until_reachable(self.settings, deadline_s=3600)
                if not opened:
                    await self._pool.open()
                    opened = True
                await serve(
                    queue,
                    self._pool,
                    worker_id=self.worker_id,
                    worker_type=self.settings.worker_type,
                    grace_s=self.settings.stop_grace_s + 2,
                )
            except (DatabaseUnavailable, ConnectorException) as exc:
                # Away, or not migrated yet because the backend is still starting.
                logger.warning("the queue cannot be served: %s", _reason(exc))
            except Exception:
                # Whatever ends the queue's loop, a worker that does not serve is of no use.
                logger.exception("the queue's loop ended; it starts again")
            await asyncio.sleep(1)

    def _registration(self) -> WorkerRegistration:
        running = self.supervisor.running
        return WorkerRegistration(
            worker_id=self.worker_id,
            worker_type=self.settings.worker_type,
            endpoint_url=self.settings.worker_public_base_url,
            capabilities={"operations": [self.settings.worker_type.value]},
            version=self.settings.image_tag,
            current_operation_id=running.operation_id if running else None,
        )


def create_app(settings: WorkerSettings) -> FastAPI:
    """The worker's application; its lifespan runs the worker."""
    worker = Worker(settings)
    service = SERVICE[settings.worker_type]
    provider = set_up_tracing(settings, service)
    metrics.build_info.labels(service, settings.image_tag, settings.ktrdr_commit).set(1)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with worker.running():
            yield
        await asyncio.to_thread(shut_down_tracing, provider)

    app = FastAPI(
        title=f"KTRDR {settings.worker_type} worker",
        version=installed_version("ktrdr"),
        lifespan=lifespan,
        openapi_url=None,
    )
    _add_routes(app, worker)
    trace_requests(app, provider)
    return app


def app_for(worker_type: WorkerType) -> FastAPI:
    """The application of a worker of this type, with settings from the environment.

    Raises:
        SystemExit: With code 3 and one sentence, when the settings cannot be used.
    """
    try:
        settings = _settings_of(worker_type)
    except ConfigurationError as exc:
        sys.stderr.write(f"{exc.message}\n{exc.hint}\n")
        raise SystemExit(exc.exit_code) from None
    set_up_logging(settings.log_level, service=SERVICE[worker_type])
    return create_app(settings)


def _settings_of(worker_type: WorkerType) -> WorkerSettings:
    settings = WorkerSettings.load()
    if settings.worker_type is not worker_type:
        raise ConfigurationError(
            f"WORKER_TYPE is {settings.worker_type}, but this is the {worker_type} worker",
            hint="Let the compose file's command and WORKER_TYPE agree.",
        )
    return settings


def _add_routes(app: FastAPI, worker: Worker) -> None:
    @app.get("/health")
    async def health(user_agent: Annotated[str, Header()] = "") -> WorkerHealth:
        if user_agent.startswith("ktrdr-backend"):
            worker.registrar.seen()
        return worker.health()

    @app.get("/metrics")
    async def scrape(accept: Annotated[str, Header()] = "") -> Response:
        body, content_type = metrics.expose(accept)
        return Response(body, media_type=content_type)

    @app.get("/operations/{operation_id}", response_model=None)
    async def operation(operation_id: str) -> Response:
        running = worker.supervisor.running
        if running is None or running.operation_id != operation_id:
            return _not_here(operation_id)
        return JSONResponse(
            {
                "operation_id": operation_id,
                "progress": running.progress,
                "message": running.message,
                "stopping": running.stop_reason,
            }
        )

    @app.get("/operations/{operation_id}/logs", response_model=None)
    async def logs(operation_id: str, offset: Annotated[int, Query(ge=0)] = 0) -> Response:
        running = worker.supervisor.running
        if running is None or running.operation_id != operation_id:
            return _not_here(operation_id)
        part = await asyncio.to_thread(read_from, running.workspace.log, offset)
        return Response(part, media_type="text/plain; charset=utf-8")


def _not_here(operation_id: str) -> Response:
    problem = Problem(
        type="https://ktrdr.dev/problems/not-found",
        title="Not found",
        status=404,
        detail=f"operation {operation_id!r} does not run on this worker",
    )
    return JSONResponse(
        problem.model_dump(), status_code=404, media_type="application/problem+json"
    )


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
