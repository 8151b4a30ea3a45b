"""The API answers as its own documentation says, whatever it is asked. See `make fuzz-api`."""

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
from tests.fuzz.stage import Stage, set_up
from tests.integration.postgres import Server
from tests.integration.processes import Process, Site, token

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "500"))
METHODS = {"get", "put", "post", "delete", "patch", "head"}


@pytest.fixture
def stage(place: Site) -> Stage:
    """A backend with something in it."""
    return set_up(place)


@pytest.mark.timeout(3600)
def test_every_answer_is_one_that_the_documentation_names(stage: Stage) -> None:
    account = run(stage, REQUESTS, seed=1)
    assert account.problems == {}
    assert account.server_errors == 0
    assert account.requests >= REQUESTS
    met = {status for _, status in account.answers}
    assert met >= {200, 201, 202, 204, 400, 401, 403, 404, 409, 422}, "too tame a run"
    assert "Traceback" not in stage.backend.output


def test_a_method_that_a_path_does_not_have_is_refused(backend: Process) -> None:
    paths = documentation(backend)["paths"]
    for template in paths:
        path = template.replace("{", "").replace("}", "")
        has = {method for other in paths if covers(other, path) for method in paths[other]}
        for method in sorted(METHODS - has):
            answer = httpx.request(method, backend.url + path, trust_env=False)
            assert answer.status_code == 405, (method, path)
            assert set(answer.headers["allow"].lower().split(", ")) <= has
            if method != "head":
                assert answer.headers["content-type"] == "application/problem+json"


def test_a_stream_of_events_is_as_documented_also_while_it_does_not_end(stage: Stage) -> None:
    described = documentation(stage.backend)["paths"]["/api/v1/operations/{operation_id}/events"]
    assert "text/event-stream" in described["get"]["responses"]["200"]["content"]
    headers = {"Authorization": f"Bearer {token(Role.READER).reveal()}", "Last-Event-ID": "0"}
    for name in stage.open_ids + stage.ended_ids:
        url = f"{stage.backend.url}/api/v1/operations/{name}/events"
        with httpx.stream("GET", url, headers=headers, timeout=10, trust_env=False) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            assert next(lines).startswith("id: ")
            assert next(lines) == "event: submitted"


def test_while_the_database_is_away_every_route_answers_as_documented(
    postgres: Server, place: Site, stage: Stage
) -> None:
    headers = {"Authorization": f"Bearer {token(Role.OPERATOR).reveal()}"}
    routes = [
        (method, path, described)
        for path, methods in documentation(stage.backend)["paths"].items()
        for method, described in methods.items()
    ]

    def ask(method: str, path: str) -> int:
        for part in ("operation_id", "worker_id", "symbol", "timeframe", "name"):
            path = path.replace(f"{{{part}}}", "x")
        url = f"{stage.backend.url}{path}"
        return httpx.request(method, url, headers=headers, timeout=30, trust_env=False).status_code

    with away(postgres, place), concurrent.futures.ThreadPoolExecutor(len(routes)) as pool:
        statuses = list(pool.map(lambda route: ask(route[0], route[1]), routes))
    for (method, path, described), status in zip(routes, statuses, strict=True):
        assert str(status) in described["responses"], (method, path, status)
    assert 503 in statuses
    assert 500 not in statuses


def covers(template: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) is not None


def documentation(backend: Process) -> dict[str, Any]:
    answer = httpx.get(f"{backend.url}/api/v1/openapi.json", trust_env=False)
    found: dict[str, Any] = answer.json()
    return found


@contextmanager
def away(postgres: Server, place: Site) -> Iterator[None]:
    """Nobody gets into the database during the block."""
    name = place.settings.db_name
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
