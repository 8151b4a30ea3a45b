"""A backend that is replaced by another: what its clients notice."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ktrdr.client.backend import BackendClient
from ktrdr.errors import HostUnreachable
from ktrdr.schemas import OperationRequest, OperationType
from tests.integration.processes import Runtime, ServerProcess, wait_for

BACKTEST = OperationRequest(operation_type=OperationType.BACKTEST, parameters={"symbol": "X"})
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]"


def test_a_stop_does_not_wait_for_those_who_watch(runtime: Runtime, backend: ServerProcess) -> None:
    client = runtime.client(backend)
    operation = client.submit(BACKTEST, idempotency_key="k")
    seen = threading.Event()

    def watch() -> None:
        for _ in client.stream_events(operation.operation_id):
            seen.set()

    watching = threading.Thread(target=watch)
    watching.start()
    assert seen.wait(10)
    time.sleep(0.5)
    took = backend.stop()
    watching.join(10)
    assert took < 2, backend.output
    assert "graceful shutdown exceeded" not in backend.output


def test_no_request_fails_while_a_backend_is_replaced(
    runtime: Runtime, backend: ServerProcess
) -> None:
    port = int(backend.url.rpartition(":")[2])

    def replace() -> None:
        time.sleep(0.3)
        backend.stop()
        time.sleep(0.5)
        runtime.backend(port)

    replacing = threading.Thread(target=replace)
    replacing.start()
    client, done = runtime.client(backend), 0
    while replacing.is_alive() or done < 20:
        client.submit(BACKTEST, idempotency_key=f"key {done}")
        client.list_operations(limit=1)
        done += 1
        time.sleep(0.02)
    replacing.join()
    wait_for(
        "all of them", lambda: len(client.list_operations(limit=200).operations) == min(done, 200)
    )


@contextmanager
def breaking_off(times: int) -> Iterator[tuple[str, list[bytes]]]:
    """A server that reads a request and hangs up, so many times; then it answers."""
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    request = connection.recv(65536)
                    requests.append(request.partition(b" HTTP")[0])
                    if len(requests) > times:
                        connection.sendall(ANSWER)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", requests
        server.shutdown(socket.SHUT_RDWR)


def test_what_is_broken_off_is_sent_once_more_where_that_does_no_harm() -> None:
    with breaking_off(1) as (url, requests), BackendClient(url, None) as client:
        assert client.list_workers() == []
    assert requests.count(b"GET /api/v1/workers") == 2
    with breaking_off(1) as (url, requests), BackendClient(url, None) as client:
        client.request("POST", "/operations", json=[], headers={"Idempotency-Key": "k"})
    assert requests.count(b"POST /api/v1/operations") == 2


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/tokens/revoked"), ("DELETE", "/data/X/1d")]
)
def test_what_may_have_been_done_is_not_done_again(method: str, path: str) -> None:
    broken = pytest.raises(HostUnreachable, match="closed the connection")
    with breaking_off(1) as (url, requests), BackendClient(url, None) as client, broken:
        client.request(method, path)
    assert requests == [f"{method} /api/v1{path}".encode()]


def test_a_backend_that_stays_away_is_waited_for_no_longer_than_that() -> None:
    with (
        breaking_off(10**6) as (url, requests),
        BackendClient(url, None, reconnect_timeout_s=0.5) as client,
    ):
        began = time.monotonic()
        with pytest.raises(HostUnreachable):
            client.list_workers()
        assert time.monotonic() - began < 3
    assert requests.count(b"GET /api/v1/workers") == 1
