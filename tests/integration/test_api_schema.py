"""The API responds as its documentation describes. See also `make fuzz-api`."""

from __future__ import annotations

import concurrent.futures
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from psycopg import sql

from ktrdr.tokens import Role
from tests.fuzz.run import run
from tests.fuzz.target import FuzzTarget, start_target
from tests.integration.postgres import PostgresServer
from tests.integration.processes import Runtime, ServerProcess, token

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "500"))
METHODS = {"get", "put", "post", "delete", "patch", "head"}


@pytest.fixture
def target(runtime: Runtime) -> FuzzTarget:
    """Start a backend with an operation in every state."""
    return start_target(runtime)


@pytest.mark.timeout(3600)
def test_every_response_is_documented(target: FuzzTarget) -> None:
    tally = run(target, REQUESTS, seed=1)
    assert tally.problems == {}
    assert tally.server_errors == 0
    assert tally.requests >= REQUESTS
    statuses = {status for _, status in tally.responses}
    assert statuses >= {200, 201, 202, 204, 400, 401, 403, 404, 409, 422}, "the run was too uniform"
    assert "Traceback" not in target.backend.output


def test_an_undocumented_method_is_rejected(backend: ServerProcess) -> None:
    paths = openapi(backend)["paths"]
    for template in paths:
        path = template.replace("{", "").replace("}", "")
        documented = {method for other in paths if matches(other, path) for method in paths[other]}
        for method in sorted(METHODS - documented):
            answer = httpx.request(method, backend.url + path, trust_env=False)
            assert answer.status_code == 405, (method, path)
            assert set(answer.headers["allow"].lower().split(", ")) <= documented
            if method != "head":
                assert answer.headers["content-type"] == "application/problem+json"


def test_an_event_stream_is_as_documented_even_while_it_does_not_end(target: FuzzTarget) -> None:
    described = openapi(target.backend)["paths"]["/api/v1/operations/{operation_id}/events"]
    assert "text/event-stream" in described["get"]["responses"]["200"]["content"]
    headers = {"Authorization": f"Bearer {token(Role.READER).reveal()}", "Last-Event-ID": "0"}
    for name in target.open_ids + target.ended_ids:
        url = f"{target.backend.url}/api/v1/operations/{name}/events"
        with httpx.stream("GET", url, headers=headers, timeout=10, trust_env=False) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            assert next(lines).startswith("id: ")
            assert next(lines) == "event: submitted"


def test_every_route_responds_as_documented_while_the_database_is_unavailable(
    postgres: PostgresServer, runtime: Runtime, target: FuzzTarget
) -> None:
    headers = {"Authorization": f"Bearer {token(Role.OPERATOR).reveal()}"}
    routes = [
        (method, path, described)
        for path, methods in openapi(target.backend)["paths"].items()
        for method, described in methods.items()
    ]

    def ask(method: str, path: str) -> int:
        for part in ("operation_id", "worker_id", "symbol", "timeframe", "name"):
            path = path.replace(f"{{{part}}}", "x")
        url = f"{target.backend.url}{path}"
        return httpx.request(method, url, headers=headers, timeout=30, trust_env=False).status_code

    with unavailable(postgres, runtime), concurrent.futures.ThreadPoolExecutor(len(routes)) as pool:
        statuses = list(pool.map(lambda route: ask(route[0], route[1]), routes))
    for (method, path, described), status in zip(routes, statuses, strict=True):
        assert str(status) in described["responses"], (method, path, status)
    assert 503 in statuses
    assert 500 not in statuses


def matches(template: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) is not None


def openapi(backend: ServerProcess) -> dict[str, Any]:
    answer = httpx.get(f"{backend.url}/api/v1/openapi.json", trust_env=False)
    document: dict[str, Any] = answer.json()
    return document


@contextmanager
def unavailable(postgres: PostgresServer, runtime: Runtime) -> Iterator[None]:
    """Reject all connections to the database during the block."""
    name = runtime.settings.db_name
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    postgres.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
    postgres.execute(
        sql.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}").format(
            sql.Literal(name)
        )
    )
    try:
        yield
    finally:
        postgres.execute(allow.format(sql.Identifier(name), sql.SQL("true")))
