"""Docker HEALTHCHECK: query the health of this container's own HTTP server.

The output is the server's health document. Docker stores it, so that a deploy can read a health
document that is some seconds old without starting a program in the container. After it follows, in
a sentence, why the server cannot do its work, which makes the container unhealthy. Nothing restarts
such a container. This program runs as ``python3 -I -S`` every few seconds in each container, so it
imports very little: a plain socket instead of ``http.client`` makes it three times as fast.
"""

import os
import socket
import sys

TIMEOUT_S = 3.0


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


def find_problem(document: str) -> str:
    """Return why the server says that it cannot do its work, or an empty string."""
    # Most documents have no problem, so that the module is rarely loaded.
    if '"problem":{' not in document.replace(" ", ""):
        return ""
    import json

    try:
        return str(json.loads(document)["problem"]["message"])
    except (KeyError, TypeError, ValueError):
        return ""


if __name__ == "__main__":
    worker_port = os.environ.get("WORKER_PORT")
    port = int(worker_port or 8000)
    document = fetch(port, "/health" if worker_port else "/api/v1/health")
    problem = find_problem(document or "")
    sys.stdout.write((document or "") + (f"\n{problem}\n" if problem else ""))
    sys.exit(1 if document is None or problem else 0)
