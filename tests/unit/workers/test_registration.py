"""Tests of the registration of a worker at the backend."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from ktrdr.secret import Secret
from ktrdr.workers.registration import Registrar


class RecordingServer(ThreadingHTTPServer):
    """HTTP server that records the paths of requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.paths: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: RecordingServer

    def do_DELETE(self) -> None:
        self.server.paths.append(self.path)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def servers() -> Iterator[tuple[RecordingServer, RecordingServer]]:
    backend, proxy = RecordingServer(), RecordingServer()
    yield backend, proxy
    for server in (backend, proxy):
        server.shutdown()
        server.server_close()


def test_a_proxy_of_the_environment_does_not_receive_the_token(servers, monkeypatch) -> None:
    backend, proxy = servers
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    settings: Any = SimpleNamespace(ktrdr_api_url=backend.url, worker_token=Secret("a token"))
    worker: Any = SimpleNamespace(worker_id="w-1")
    registrar = Registrar(settings, lambda: worker)
    registrar.is_registered = True
    asyncio.run(registrar.deregister())
    assert (len(backend.paths), proxy.paths) == (1, [])
    assert backend.paths[0].endswith("/workers/w-1")
