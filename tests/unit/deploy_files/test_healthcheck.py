"""Health check of the image, against real servers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from deploy.healthcheck import fetch, find_problem

BODY = b'{"status": "idle"}'


@contextmanager
def server(statuses: dict[str, int], body: bytes = BODY) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.get(self.path, 404))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    running = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield running.server_port
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


@pytest.mark.parametrize("status", [200, 204])
def test_a_successful_response_is_healthy(status):
    with server({"/health": status}) as port:
        assert fetch(port, "/health") == BODY.decode()


def test_any_other_response_is_unhealthy_and_reported(capsys):
    with server({"/health": 503}) as port:
        assert fetch(port, "/health") is None
    assert "/health answers HTTP/1.0 503" in capsys.readouterr().err


def test_a_closed_port_is_unhealthy_and_reported(capsys):
    with server({}) as port:
        pass
    assert fetch(port, "/health") is None
    error = capsys.readouterr().err
    assert error == f"/health of port {port} does not answer (ConnectionRefusedError)\n"


def test_the_check_of_a_worker_uses_its_port_and_prints_its_response(root):
    with server({"/health": 200}) as port:
        done = subprocess.run(
            [sys.executable, "-I", "-S", root / "deploy" / "healthcheck.py"],
            env={**os.environ, "WORKER_PORT": str(port)},
            capture_output=True,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, BODY, b"")


def test_a_server_that_cannot_work_is_unhealthy_with_its_document_and_the_reason(root):
    body = b'{"status":"idle","problem":{"kind":"not-ready","message":"no share","hint":null}}'
    with server({"/health": 200}, body) as port:
        done = subprocess.run(
            [sys.executable, "-I", "-S", root / "deploy" / "healthcheck.py"],
            env={**os.environ, "WORKER_PORT": str(port)},
            capture_output=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (1, body + b"\nno share\n")


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ('{"problem": {"message": "no share"}}', "no share"),
        ('{"problem":null}', ""),
        ('{"problem":{}}', ""),
        ('{"problem":{"message":', ""),
        ("<html>", ""),
        ("", ""),
    ],
)
def test_the_problem_is_read_from_any_document(document, problem):
    assert find_problem(document) == problem
