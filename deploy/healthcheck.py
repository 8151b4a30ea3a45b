"""Docker HEALTHCHECK: query the health of this container's own HTTP server.

The output is the server's health document. Docker stores it, so that a deploy can read a health
document that is some seconds old without starting a program in the container. Only liveness decides
about a backend, because a database that is down must not cause a restart of the backend. This
program runs as ``python3 -I -S`` every few seconds in each container, so it imports very little: a
plain socket instead of ``http.client`` makes it three times as fast.
"""

import os
import socket
import sys

TIMEOUT_S = 3.0
# For output only. Without its database, a backend takes longer to answer.
DOCUMENT_TIMEOUT_S = 0.8


def fetch(port: int, path: str, timeout_s: float = TIMEOUT_S) -> str | None:
    """Return the body of ``GET path`` on this container's ``port``, or None unless it is a 2xx.

    Errors are written to standard error.
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
        document = fetch(int(worker_port), "/health")
        is_healthy = document is not None
    else:
        is_healthy = fetch(8000, "/api/v1/health/live") is not None
        document = fetch(8000, "/api/v1/health", DOCUMENT_TIMEOUT_S) if is_healthy else None
    sys.stdout.write(document or "")
    sys.exit(0 if is_healthy else 1)
