"""Answers Docker's HEALTHCHECK: does this container's own HTTP server say that it is well?

Docker keeps what is printed, so that is what the program says of itself: whoever inspects the
container knows how it was some seconds ago, and starts no program in it for that. A backend is
judged by liveness alone, since a database that is away must not get it restarted. Runs as
``python3 -I -S`` every few seconds in each container, so it imports next to nothing: a plain socket
instead of ``http.client`` makes it three times as quick.
"""

import os
import socket
import sys

TIMEOUT_S = 3.0
# What is only printed may not come: without its database a backend takes longer to say so.
REMARK_TIMEOUT_S = 0.8


def answer_of(port: int, path: str, timeout_s: float = TIMEOUT_S) -> str | None:
    """The body of the answer to ``GET path`` on this container's ``port``; None unless it is a 2xx.

    What is wrong is written to standard error.
    """
    request = f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
            connection.sendall(request.encode())
            answer = connection.makefile("rb").read().decode(errors="replace")
    except OSError as exc:
        sys.stderr.write(f"{path} of port {port} does not answer ({type(exc).__name__})\n")
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
        said = answer_of(int(worker_port), "/health")
        well = said is not None
    else:
        well = answer_of(8000, "/api/v1/health/live") is not None
        said = answer_of(8000, "/api/v1/health", REMARK_TIMEOUT_S) if well else None
    sys.stdout.write(said or "")
    sys.exit(0 if well else 1)
