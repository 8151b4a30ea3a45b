"""HTTP API of a backend process: permissions, errors, workers, operations, strategies."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from ktrdr.client.backend import BackendClient
from ktrdr.errors import (
    Conflict,
    HostUnreachable,
    InvalidParameters,
    NotFound,
    SecretsError,
    UsageError,
)
from ktrdr.schemas import OperationRequest, OperationStatus, OperationType
from ktrdr.secret import Secret
from ktrdr.tokens import Role
from tests.integration.processes import JWT_SECRET, Runtime, ServerProcess, token, wait_for
from tests.integration.sshd import free_port

CSV = b"date,open,high,low,close\n2020-01-01,1,2,0.5,1\n2020-01-02,1,2,0.5,1.5\n"
BACKTEST = OperationRequest(operation_type=OperationType.BACKTEST, parameters={"symbol": "X"})
REGISTRATION = {
    "worker_id": "w1",
    "worker_type": "backtesting",
    "endpoint_url": "http://127.0.0.1:5003",
    "version": "sha-7e57ed0",
}


def request(
    backend: ServerProcess, method: str, path: str, credential: Secret | None, **more: Any
) -> httpx.Response:
    headers = {"Authorization": f"Bearer {credential.reveal()}"} if credential else {}
    return httpx.request(
        method, f"{backend.url}{path}", headers=headers, timeout=10, trust_env=False, **more
    )


# Roles that each route permits; every other role is rejected.
ROUTES = [
    ("POST", "/api/v1/workers/register", {Role.WORKER}),
    ("GET", "/api/v1/workers", {Role.WORKER, Role.READER, Role.OPERATOR}),
    ("GET", "/api/v1/workers/w1", {Role.WORKER, Role.READER, Role.OPERATOR}),
    ("DELETE", "/api/v1/workers/w9", {Role.OPERATOR, Role.WORKER, Role.READER}),
    ("POST", "/api/v1/operations", {Role.OPERATOR}),
    ("GET", "/api/v1/operations", {Role.WORKER, Role.READER, Role.OPERATOR}),
    (
        "GET",
        "/api/v1/operations/op_backtest_20200101_000000_00000000",
        {Role.WORKER, Role.READER, Role.OPERATOR},
    ),
    ("DELETE", "/api/v1/operations/op_backtest_20200101_000000_00000000", {Role.OPERATOR}),
    ("POST", "/api/v1/operations/op_backtest_20200101_000000_00000000/resume", {Role.OPERATOR}),
    (
        "GET",
        "/api/v1/operations/op_backtest_20200101_000000_00000000/results",
        {Role.WORKER, Role.READER, Role.OPERATOR},
    ),
    (
        "GET",
        "/api/v1/operations/op_backtest_20200101_000000_00000000/results/files/a",
        {Role.WORKER, Role.READER, Role.OPERATOR},
    ),
    (
        "GET",
        "/api/v1/operations/op_backtest_20200101_000000_00000000/events",
        {Role.WORKER, Role.READER, Role.OPERATOR},
    ),
    (
        "GET",
        "/api/v1/operations/op_backtest_20200101_000000_00000000/logs",
        {Role.WORKER, Role.READER, Role.OPERATOR},
    ),
    ("GET", "/api/v1/leftovers", {Role.WORKER, Role.READER, Role.OPERATOR}),
    ("DELETE", "/api/v1/leftovers", {Role.OPERATOR}),
    ("GET", "/api/v1/drains", {Role.WORKER, Role.READER, Role.OPERATOR}),
    ("PUT", "/api/v1/drains/w1", {Role.OPERATOR}),
    ("DELETE", "/api/v1/drains/w1", {Role.OPERATOR}),
    ("GET", "/api/v1/tokens/revoked", {Role.OPERATOR}),
    ("POST", "/api/v1/tokens/revoked", {Role.OPERATOR}),
    ("GET", "/api/v1/audit", {Role.OPERATOR}),
    ("GET", "/api/v1/strategies", {Role.WORKER, Role.READER, Role.OPERATOR}),
    ("GET", "/api/v1/strategies/buy_and_hold", {Role.WORKER, Role.READER, Role.OPERATOR}),
    ("PUT", "/api/v1/strategies/mine", {Role.OPERATOR}),
    ("DELETE", "/api/v1/strategies/mine", {Role.OPERATOR}),
    ("GET", "/api/v1/data", {Role.WORKER, Role.READER, Role.OPERATOR}),
    ("PUT", "/api/v1/data/X/1d", {Role.OPERATOR}),
    ("GET", "/api/v1/data/X", {Role.WORKER, Role.READER, Role.OPERATOR}),
    ("GET", "/api/v1/data/X/1d", {Role.WORKER, Role.READER, Role.OPERATOR}),
    ("DELETE", "/api/v1/data/X/1d", {Role.OPERATOR}),
]
BODIES: dict[str, dict[str, Any]] = {
    "/api/v1/workers/register": {"json": REGISTRATION},
    "/api/v1/operations": {"json": BACKTEST.model_dump(mode="json")},
    "/api/v1/data/X/1d": {"content": CSV},
    "/api/v1/drains/w1": {"json": {"mode": "finish"}},
    "/api/v1/tokens/revoked": {"json": {"token_id": "t", "expires_at": "2100-01-01T00:00:00Z"}},
    "/api/v1/strategies/mine": {"content": b"name: mine\nentry: always\nexit: never\n"},
}


def test_every_route_requires_a_token_of_a_permitted_role(runtime: Runtime) -> None:
    backend = runtime.backend(BAD_TOKENS_A_MINUTE="1000")
    documented = httpx.get(f"{backend.url}/api/v1/openapi.json", trust_env=False).json()["paths"]
    open_routes = {"/api/v1/health", "/api/v1/health/live", "/api/v1/health/ready"}
    open_routes.add("/api/v1/service-discovery")
    guarded = {
        (method.upper(), path)
        for path, methods in documented.items()
        if path not in open_routes
        for method in methods
    }
    assert len(guarded) == len(ROUTES), "a route is missing from this table"
    bad = {
        "none": None,
        "forged": token(Role.OPERATOR, secret=Secret("another secret that is long enough too")),
        "expired": token(Role.OPERATOR, lifetime=-120),
        "nonsense": Secret("a.b.c"),
    }
    for method, path, allowed in ROUTES:
        body = BODIES.get(path, {}) if method in ("POST", "PUT") else {}
        for name, credential in bad.items():
            answer = request(backend, method, path, credential, **body)
            assert answer.status_code == 401, (method, path, name)
            assert answer.headers["content-type"] == "application/problem+json"
        for role in Role:
            answer = request(backend, method, path, token(role), **body)
            let_in = answer.status_code not in (401, 403)
            assert let_in == (role in allowed), (method, path, role, answer.text)


def test_a_worker_cannot_register_the_url_of_another_host(backend: ServerProcess) -> None:
    for url in (
        "http://other.example:5003",
        "http://127.0.0.1:5003/metrics",
        "https://127.0.0.1:5003",
        "http://127.0.0.1@other.example:5003",
        "http://localhost:5003",
    ):
        body = {**REGISTRATION, "endpoint_url": url}
        answer = request(backend, "POST", "/api/v1/workers/register", token(Role.WORKER), json=body)
        assert answer.status_code == 403, (url, answer.text)
    other = token(Role.WORKER, node="other.example")
    answer = request(backend, "POST", "/api/v1/workers/register", other, json=REGISTRATION)
    assert answer.status_code == 403
    assert request(backend, "GET", "/api/v1/workers", token(Role.READER)).json() == []


def test_a_worker_can_remove_itself_but_no_worker_of_another_node(backend: ServerProcess) -> None:
    mine = token(Role.WORKER)
    assert request(backend, "POST", "/api/v1/workers/register", mine, json=REGISTRATION).is_success
    foreign = token(Role.WORKER, node="other.example")
    assert request(backend, "DELETE", "/api/v1/workers/w1", foreign).status_code == 403
    assert request(backend, "DELETE", "/api/v1/workers/w1", token(Role.READER)).status_code == 403
    assert request(backend, "DELETE", "/api/v1/workers/w1", mine).status_code == 204
    assert request(backend, "GET", "/api/v1/workers/w1", mine).status_code == 404


def test_a_restarted_backend_still_knows_its_workers(runtime: Runtime) -> None:
    first = runtime.backend()
    request(first, "POST", "/api/v1/workers/register", token(Role.WORKER), json=REGISTRATION)
    assert first.stop() < 10
    second = runtime.backend()
    (worker,) = runtime.client(second).list_workers()
    assert worker.worker_id == "w1"
    assert worker.node == "127.0.0.1"


def test_a_silent_worker_becomes_unavailable_and_is_removed(runtime: Runtime) -> None:
    backend = runtime.backend(HEALTH_CHECK_INTERVAL_S="0.1", WORKER_FORGET_AFTER_S="3")
    body = {**REGISTRATION, "endpoint_url": f"http://127.0.0.1:{free_port()}"}
    request(backend, "POST", "/api/v1/workers/register", token(Role.WORKER), json=body)
    client = runtime.client(backend)
    wait_for(
        "three failures",
        lambda: [w.status for w in client.list_workers()] == ["temporarily_unavailable"],
    )
    wait_for("its removal", lambda: client.list_workers() == [])


def test_invalid_filters_are_rejected(backend: ServerProcess) -> None:
    for query in ("worker_type=cooking", "status=tired"):
        answer = request(backend, "GET", f"/api/v1/workers?{query}", token(Role.READER))
        assert answer.status_code == 422
        assert answer.json()["type"] == "urn:ktrdr:problem:usage"


def test_service_discovery_names_each_workers_job_after_its_node(backend: ServerProcess) -> None:
    request(backend, "POST", "/api/v1/workers/register", token(Role.WORKER), json=REGISTRATION)
    answer = httpx.get(f"{backend.url}/api/v1/service-discovery", trust_env=False)
    assert answer.json() == [
        {
            "targets": ["127.0.0.1:5003"],
            "labels": {
                "job": "ktrdr-127",
                "node": "127.0.0.1",
                "worker_id": "w1",
                "worker_type": "backtesting",
            },
        }
    ]


def test_metrics_are_openmetrics_on_request_and_contain_no_operation_id(
    runtime: Runtime, backend: ServerProcess
) -> None:
    operation = runtime.client(backend).submit(BACKTEST, idempotency_key="k")
    wanted = {"Accept": "application/openmetrics-text;version=1.0.0"}
    answer = httpx.get(f"{backend.url}/metrics", headers=wanted, trust_env=False)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.rstrip().endswith("# EOF")
    assert 'ktrdr_operations_submitted_total{operation_type="backtest"} 1.0' in answer.text
    assert operation.operation_id not in answer.text
    plain = httpx.get(f"{backend.url}/metrics", trust_env=False)
    assert plain.headers["content-type"].startswith("text/plain")


def test_a_repeated_submission_returns_the_same_operation_and_its_location(
    runtime: Runtime, backend: ServerProcess
) -> None:
    answers = [
        httpx.post(
            f"{backend.url}/api/v1/operations",
            json=BACKTEST.model_dump(mode="json"),
            headers={
                "Authorization": f"Bearer {token(Role.OPERATOR).reveal()}",
                "Idempotency-Key": "once",
            },
            trust_env=False,
        )
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [202, 202]
    first, second = (answer.json()["operation_id"] for answer in answers)
    assert first == second
    assert answers[0].headers["location"] == f"/api/v1/operations/{first}"
    assert len(runtime.client(backend).list_operations().operations) == 1


def test_events_stream_until_the_end_and_continue_after_a_reconnect(
    runtime: Runtime, backend: ServerProcess
) -> None:
    client = runtime.client(backend)
    operation = client.submit(BACKTEST, idempotency_key="k")
    stream = client.stream_events(operation.operation_id)
    first = next(stream)
    assert first.kind == "submitted"
    client.cancel(operation.operation_id)
    (last,) = list(stream)
    assert (last.kind, last.status) == ("finished", OperationStatus.CANCELLED)
    again = list(client.stream_events(operation.operation_id, after=first.event_id))
    assert again == [last]


def test_the_client_raises_the_backends_errors(runtime: Runtime, backend: ServerProcess) -> None:
    client = runtime.client(backend)
    with pytest.raises(NotFound, match="op_nothing"):
        client.get_operation("op_nothing")
    with pytest.raises(InvalidParameters, match="symbol"):
        client.submit(OperationRequest(operation_type=OperationType.TRAINING), idempotency_key="k")
    operation = client.submit(BACKTEST, idempotency_key="k")
    with pytest.raises(Conflict, match=r"has no results \(status: pending"):
        client.get_results(operation.operation_id)
    stranger = BackendClient(backend.url, Secret("x.y.z"))
    with stranger, pytest.raises(SecretsError, match="not issued for this backend"):
        stranger.list_workers()
    unreachable = BackendClient(f"http://127.0.0.1:{free_port()}", None, reconnect_timeout_s=0)
    with unreachable, pytest.raises(HostUnreachable, match="refuses connections"):
        unreachable.get_health()
    unknown = BackendClient("http://no-such-host.invalid:8000", None)
    with unknown, pytest.raises(HostUnreachable, match="host name is unknown"):
        unknown.get_health()


def test_a_lost_database_is_reported_until_it_returns(
    runtime: Runtime, backend: ServerProcess
) -> None:
    client = runtime.client(backend)
    health = client.get_health()
    assert (health.status, health.version.image_tag) == ("ok", "sha-7e57ed0")
    name = runtime.settings.db_name
    import psycopg

    with psycopg.connect(
        host=runtime.settings.db_host,
        port=runtime.settings.db_port,
        user=runtime.settings.db_user.reveal(),
        password=runtime.settings.db_password.reveal(),
        dbname="postgres",
        autocommit=True,
    ) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )

        def document() -> dict[str, Any]:
            answer = httpx.get(f"{backend.url}/api/v1/health", timeout=1, trust_env=False)
            assert answer.status_code == 200
            content: dict[str, Any] = answer.json()
            return content

        wait_for("the database's loss", lambda: document()["database"] == "unavailable", 15)
        assert "is not currently accepting connections" in document()["problem"]["message"]
        refused = request(backend, "GET", "/api/v1/operations", token(Role.READER))
        assert refused.status_code == 503
        assert "database" in refused.json()["detail"]
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    wait_for("the database's return", lambda: client.get_health().status == "ok")


def test_a_backend_with_invalid_settings_names_them_and_exits_with_3(
    runtime: Runtime, tmp_path: Path
) -> None:
    process = runtime.start("ktrdr.api.main:app", free_port(), JWT_SECRET="short", DB_PORT="x")
    assert process.popen.wait(20) == 3
    assert "JWT_SECRET" in process.output
    assert "DB_PORT" in process.output
    assert "Traceback" not in process.output
    assert "short'" not in process.output


def test_a_backend_stops_within_seconds_despite_an_open_event_stream(
    runtime: Runtime, backend: ServerProcess
) -> None:
    client = runtime.client(backend)
    operation = client.submit(BACKTEST, idempotency_key="k")
    stream = client.stream_events(operation.operation_id)
    next(stream)
    backend.signal(signal.SIGTERM)
    backend.popen.wait(15)
    del stream


def test_no_secret_is_logged(runtime: Runtime, backend: ServerProcess) -> None:
    runtime.client(backend).submit(BACKTEST, idempotency_key="k")
    request(backend, "GET", "/api/v1/workers", token(Role.READER, lifetime=-60))
    backend.stop()
    secrets = [JWT_SECRET.reveal(), runtime.settings.db_password.reveal()]
    lines = [json.loads(line) for line in backend.output.splitlines() if line.startswith("{")]
    assert lines
    assert not any(secret in backend.output for secret in secrets)


def test_a_backend_without_a_database_exits_with_a_reason_and_a_hint(runtime: Runtime) -> None:
    process = runtime.start(
        "ktrdr.api.main:app",
        free_port(),
        JWT_SECRET=JWT_SECRET.reveal(),
        DB_PORT=str(free_port()),
        DATABASE_DEADLINE_S="0.5",
    )
    assert process.popen.wait(20) == 3
    assert "cannot be used" in process.output
    assert "Check that the db service is healthy" in process.output
    assert "Traceback" not in process.output


def test_a_strategy_is_stored_shown_listed_replaced_and_deleted(
    runtime: Runtime, backend: ServerProcess
) -> None:
    client = runtime.client(backend)
    built_in = [each.name for each in client.list_strategies()]
    assert "moving_average_cross" in built_in
    text = "name: mine\nentry: close > open\nexit: close < open # ünïcode\n"
    assert client.put_strategy("mine", text).name == "mine"
    assert client.get_strategy("mine") == text
    assert client.put_strategy("mine", text.replace("<", "<=")).content_hash
    assert [each.name for each in client.list_strategies()] == [*built_in, "mine"]
    client.delete_strategy("mine")
    with pytest.raises(NotFound, match="there is no strategy mine"):
        client.get_strategy("mine")
    with pytest.raises(NotFound):
        client.delete_strategy("mine")


def test_an_invalid_too_large_or_built_in_strategy_is_rejected(
    runtime: Runtime, backend: ServerProcess
) -> None:
    client = runtime.client(backend)
    with pytest.raises(
        InvalidParameters, match=r"mine.yml:2: entry is invalid: clsoe is not defined"
    ):
        client.put_strategy("mine", "name: mine\nentry: clsoe > 1\nexit: never\n")
    with pytest.raises(InvalidParameters, match="with the name other, not mine"):
        client.put_strategy("mine", "name: other\nentry: always\nexit: never\n")
    with pytest.raises(UsageError, match="larger than 64 KiB"):
        client.put_strategy("mine", "#" * 70_000)
    with pytest.raises(Conflict, match="buy_and_hold is built in"):
        client.put_strategy("buy_and_hold", "name: buy_and_hold\nentry: never\nexit: never\n")
    with pytest.raises(Conflict):
        client.delete_strategy("buy_and_hold")
    binary = request(
        backend, "PUT", "/api/v1/strategies/mine", token(Role.OPERATOR), content=b"\xff\xfe"
    )
    assert (binary.status_code, "not UTF-8" in binary.text) == (422, True)
    for name in ("..%2f..%2fetc%2fpasswd", ".hidden", "a%00b"):
        answer = request(backend, "GET", f"/api/v1/strategies/{name}", token(Role.READER))
        assert answer.status_code in (404, 422)
    assert all(each.built_in for each in client.list_strategies())
