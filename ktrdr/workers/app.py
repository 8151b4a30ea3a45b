"""HTTP server of a worker, and the life cycle of its tasks."""

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

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from procrastinate.exceptions import ConnectorException

from ktrdr.database.migrate import contract_migrations
from ktrdr.database.pool import first_line, make_pool, wait_until_reachable
from ktrdr.database.probe import DatabaseProbe
from ktrdr.errors import ConfigurationError, DatabaseUnavailable, KtrdrError, NotFound
from ktrdr.fitness import FindProblem, Fitness, Progress, find_stuck
from ktrdr.operations.drain_requests import DrainStore
from ktrdr.operations.files import read_log_chunk
from ktrdr.operations.leases import LeaseStore
from ktrdr.operations.queue import make_worker_app, serve_queue
from ktrdr.operations.shared_directory import SharedDirectory
from ktrdr.schemas import ProblemDocument, WorkerHealth, WorkerRegistration, WorkerType
from ktrdr.settings import WorkerSettings
from ktrdr.telemetry import metrics
from ktrdr.telemetry.logging import set_up_logging
from ktrdr.telemetry.tracing import set_up_tracing, shut_down_tracing, trace_requests
from ktrdr.workers.child_check import ChildCheck
from ktrdr.workers.process import CurrentOperation
from ktrdr.workers.registration import Registrar
from ktrdr.workers.supervision import Supervisor

logger = logging.getLogger(__name__)

SERVICE_NAMES: Final = {
    WorkerType.BACKTESTING: "ktrdr-backtest-worker",
    WorkerType.TRAINING: "ktrdr-training-worker",
}
# Connections besides the one that listens. An idle worker needs one, for the queue. During an
# operation, the renewal of its lease and its writes need others.
IDLE_POOL_SIZE: Final = 1
BUSY_POOL_SIZE: Final = 3
# A worker that is not fit by then registers all the same, so that its problem is seen.
FIT_WITHIN_S: Final = 3.0
# Tables without which it cannot run an operation. A backend of the release before has them, too.
NEEDED_TABLES: Final = ("procrastinate_jobs", "operations", "operation_events", "drains")


def make_worker_id(settings: WorkerSettings) -> str:
    """Return the configured id, or type, host and port of the public URL, stable over restarts."""
    if settings.worker_id:
        return settings.worker_id
    url = settings.worker_public_base_url
    host = (url.host or "unknown").partition(".")[0]
    return f"{settings.worker_type}-{host}-{url.port}"


class WorkerService:
    """Tasks of a worker: registration, queue and supervision of its operation."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.worker_id = make_worker_id(settings)
        self._started_at = time.monotonic()
        self._pool = make_pool(settings, self.worker_id, max_size=IDLE_POOL_SIZE)
        self._shared = SharedDirectory(settings, self._pool)
        self._child_check = ChildCheck(settings)
        self._probe = DatabaseProbe(settings, self._pool, NEEDED_TABLES)
        self._polling = Progress("asking the queue for operations")
        self.supervisor = Supervisor(
            settings,
            self.worker_id,
            LeaseStore(self._pool),
            DrainStore(self._pool),
            self._shared,
            self._child_check,
        )
        self.registrar = Registrar(settings, self._registration)
        conditions: dict[str, FindProblem] = {
            "queue": self._find_queue_problem,
            "share": lambda: self._shared.unfit,
            "registration": lambda: self.registrar.problem,
            "child process": lambda: self._child_check.problem,
            "clock": lambda: self._probe.clock,
        }
        self.fitness = Fitness(conditions, metrics.record_condition)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the tasks during the block; at its end, requeue the operation and deregister."""
        registering = asyncio.create_task(self._register())
        serving = asyncio.create_task(self._serve_queue())
        checking = asyncio.create_task(
            self._shared.run(is_busy=lambda: self.supervisor.current is not None)
        )
        trying = asyncio.create_task(self._child_check.run())
        probing = asyncio.create_task(self._probe.run())
        try:
            yield
        finally:
            self.supervisor.stop()
            for task in (serving, registering, checking, trying, probing):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await self.registrar.deregister()
            await self._pool.close()

    def find_current(self, operation_id: str) -> CurrentOperation:
        """Return the operation that runs here.

        Raises:
            NotFound: Another operation runs, or none.
        """
        current = self.supervisor.current
        if current is None or current.operation_id != operation_id:
            raise NotFound(f"operation {operation_id!r} is not running on this worker")
        return current

    def health(self) -> WorkerHealth:
        """Return the response to ``GET /health``."""
        current = self.supervisor.current
        problem, conditions = self.fitness.evaluate()
        return WorkerHealth(
            status="busy" if current else "idle",
            worker_id=self.worker_id,
            worker_type=self.settings.worker_type,
            version=self.settings.image_tag,
            commit=self.settings.ktrdr_commit,
            current_operation_id=current.operation_id if current else None,
            problem=problem,
            conditions=conditions,
            registered=self.registrar.is_registered,
            registration_error=self.registrar.error,
            uptime_s=round(time.monotonic() - self._started_at, 3),
            contract_migrations=contract_migrations(),
        )

    async def _register(self) -> None:
        # The backend takes a worker that has just registered for available until it checks it.
        deadline = time.monotonic() + FIT_WITHIN_S
        while time.monotonic() < deadline:
            if not (self._find_queue_problem() or self._shared.unfit):
                break
            await asyncio.sleep(0.1)
        await self.registrar.run()

    async def _serve_queue(self) -> None:
        """Serve the queue, and start again whenever the database was unavailable."""
        queue = make_worker_app(self._pool, self._run, self._polling.made)
        is_open = False
        while True:
            try:
                await wait_until_reachable(self.settings, deadline_s=0)
                if not is_open:
                    await self._pool.open()
                    is_open = True
                    await self._probe.check()
                    await self._shared.check()
                await serve_queue(
                    queue,
                    self._pool,
                    worker_id=self.worker_id,
                    worker_type=self.settings.worker_type,
                    grace_s=self.settings.stop_grace_s + 2,
                )
            except (DatabaseUnavailable, ConnectorException) as exc:
                # Unavailable, or not migrated yet because the backend is still starting.
                self._polling.failed(first_line(exc.__cause__ or exc))
                logger.warning("cannot serve the queue: %s", self._polling.problem)
            except Exception as exc:
                # A worker that does not serve the queue is useless, so any error is retried.
                self._polling.failed(first_line(exc))
                logger.exception("serving the queue failed, trying again")
            await asyncio.sleep(1)

    def _find_queue_problem(self) -> KtrdrError | None:
        """Return why this worker takes no operations from the queue, or None."""
        # While it runs an operation, it asks for no other.
        polling = [] if self.supervisor.is_serving else [self._polling]
        return self._probe.problem or find_stuck(polling)

    async def _run(self, operation_id: str) -> None:
        await self._pool.resize(IDLE_POOL_SIZE, BUSY_POOL_SIZE)
        try:
            await self.supervisor.run(operation_id)
        finally:
            # Unused connections are closed after a while.
            await self._pool.resize(IDLE_POOL_SIZE, IDLE_POOL_SIZE)

    def _registration(self) -> WorkerRegistration:
        current = self.supervisor.current
        return WorkerRegistration(
            worker_id=self.worker_id,
            worker_type=self.settings.worker_type,
            endpoint_url=self.settings.worker_public_base_url,
            capabilities={"operations": [self.settings.worker_type.value]},
            version=self.settings.image_tag,
            current_operation_id=current.operation_id if current else None,
        )


def create_app(worker_type: WorkerType) -> FastAPI:
    """Create a worker's application with settings from the environment.

    Raises:
        SystemExit: The settings are invalid. The exit code is 3.
    """
    try:
        settings = _load_settings(worker_type)
    except ConfigurationError as exc:
        sys.stderr.write(f"{exc.message}\n{exc.hint}\n")
        raise SystemExit(exc.exit_code) from None
    service_name = SERVICE_NAMES[worker_type]
    set_up_logging(settings.log_level, service=service_name)
    worker = WorkerService(settings)
    provider = set_up_tracing(settings, service_name)
    metrics.build_info.labels(service_name, settings.image_tag, settings.ktrdr_commit).set(1)

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


def _load_settings(worker_type: WorkerType) -> WorkerSettings:
    settings = WorkerSettings.load()
    if settings.worker_type is not worker_type:
        raise ConfigurationError(
            f"WORKER_TYPE is {settings.worker_type}, but this is the {worker_type} worker",
            hint="Set WORKER_TYPE to the worker that the compose file starts.",
        )
    return settings


def _add_routes(app: FastAPI, worker: WorkerService) -> None:
    @app.get("/health")
    async def health(user_agent: Annotated[str, Header()] = "") -> WorkerHealth:
        if user_agent.startswith("ktrdr-backend"):
            worker.registrar.record_health_check()
        return worker.health()

    @app.get("/metrics")
    async def scrape(accept: Annotated[str, Header()] = "") -> Response:
        worker.fitness.evaluate()
        body, content_type = metrics.render_metrics(accept)
        return Response(body, media_type=content_type)

    @app.get("/operations/{operation_id}", response_model=None)
    async def operation(operation_id: str) -> Response:
        current = worker.find_current(operation_id)
        return JSONResponse(
            {
                "operation_id": operation_id,
                "progress": current.progress,
                "message": current.message,
                "stopping": current.stop_reason,
            }
        )

    @app.get("/operations/{operation_id}/logs", response_model=None)
    async def logs(operation_id: str, offset: Annotated[int, Query(ge=0)] = 0) -> Response:
        log = worker.find_current(operation_id).workspace.log
        chunk = await asyncio.to_thread(read_log_chunk, log, offset)
        return Response(chunk, media_type="text/plain; charset=utf-8")

    @app.exception_handler(NotFound)
    async def not_found(_request: Request, error: NotFound) -> Response:
        problem = ProblemDocument.create(error.kind, error.http_status, error.message)
        return JSONResponse(
            problem.model_dump(),
            status_code=problem.status,
            media_type="application/problem+json",
        )
