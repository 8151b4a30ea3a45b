"""Answers Docker's HEALTHCHECK: does this container's own HTTP server say that it is well?

It asks liveness alone: a database that is away must not get a backend restarted. Runs as
``python3 -I -S`` every few seconds in each container, so it imports next to nothing: a plain socket
instead of ``http.client`` makes it three times as quick.
"""

import os
import socket
import sys

TIMEOUT_S = 3


def is_well(port: int, path: str) -> bool:
    """Whether ``GET path`` on this container's ``port`` is answered with a 2xx in time."""
    request = f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
            connection.sendall(request.encode())
            status = connection.makefile("rb").readline().split()
    except OSError as exc:
        sys.stderr.write(f"port {port} does not answer ({type(exc).__name__})\n")
        return False
    if len(status) < 2 or not status[1].startswith(b"2"):
        sys.stderr.write(f"{path} answers {b' '.join(status).decode(errors='replace')}\n")
        return False
    return True


if __name__ == "__main__":
    worker_port = os.environ.get("WORKER_PORT")
    well = (
        is_well(int(worker_port), "/health")
        if worker_port
        else is_well(8000, "/api/v1/health/live")
    )
    sys.exit(0 if well else 1)
