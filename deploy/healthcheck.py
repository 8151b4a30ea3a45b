"""Answers Docker's HEALTHCHECK: does this container's own HTTP server say that it is well?

It asks liveness alone: a database that is away must not get a backend restarted. Docker keeps what
is printed, so a worker's answer is: whoever inspects its container knows how it was some seconds
ago, and starts no program in it for that. Runs as ``python3 -I -S`` every few seconds in each
container, so it imports next to nothing: a plain socket instead of ``http.client`` makes it three
times as quick.
"""

import os
import socket
import sys

TIMEOUT_S = 3


def answer_of(port: int, path: str) -> str | None:
    """The body of the answer to ``GET path`` on this container's ``port``; None unless it is a 2xx.

    What is wrong is written to standard error.
    """
    request = f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
            connection.sendall(request.encode())
            answer = connection.makefile("rb").read().decode(errors="replace")
    except OSError as exc:
        sys.stderr.write(f"port {port} does not answer ({type(exc).__name__})\n")
        return None
    head, _, body = answer.partition("\r\n\r\n")
    status = head.partition("\r\n")[0].split()
    if len(status) < 2 or not status[1].startswith("2"):
        sys.stderr.write(f"{path} answers {' '.join(status)}\n")
        return None
    return body


if __name__ == "__main__":
    worker_port = os.environ.get("WORKER_PORT")
    if worker_port:
        answer = answer_of(int(worker_port), "/health")
        sys.stdout.write(f"{answer}\n" if answer else "")
    else:
        answer = answer_of(8000, "/api/v1/health/live")
    sys.exit(1 if answer is None else 0)
