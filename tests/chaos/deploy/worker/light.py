"""A light worker: it registers and answers health checks, but runs no operations.

A deploy treats it like a real worker, which starts ten times slower. Runs as ``python3 -I -S``,
with only the standard library.
"""

import json
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = int(os.environ["WORKER_PORT"])
URL = os.environ["WORKER_PUBLIC_BASE_URL"]
KIND = os.environ["WORKER_TYPE"]
TAG = os.environ["IMAGE_TAG"]
ID = f"light-{os.environ['WORKER_HOSTNAME'].partition('.')[0]}-{PORT}"
WORKERS = f"{os.environ['KTRDR_API_URL'].rstrip('/')}/api/v1/workers"
CHECK_INTERVAL_S = 10.0
start = time.monotonic()
registration: dict[str, bool | str | None] = {"registered": False, "registration_error": None}


def send(url: str, body: object = None) -> bool:
    """Send a request to the backend; return True if it succeeds."""
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None)
    request.add_header("Authorization", f"Bearer {os.environ['WORKER_TOKEN']}")
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            status: int = response.status
            return 200 <= status < 300
    except urllib.error.HTTPError as exc:
        registration["registration_error"] = (
            f"the backend rejected the registration with status {exc.code}"
        )
    except OSError as exc:
        registration["registration_error"] = f"the backend does not answer ({type(exc).__name__})"
    return False


def keep_registered() -> None:
    """Register, and register again when the backend has forgotten this worker."""
    while True:
        me = {"worker_id": ID, "worker_type": KIND, "endpoint_url": URL, "version": TAG}
        registration["registered"] = send(f"{WORKERS}/register", me)
        if not registration["registered"]:
            time.sleep(0.5)
            continue
        registration["registration_error"] = None
        time.sleep(CHECK_INTERVAL_S)
        while send(f"{WORKERS}/{ID}"):
            time.sleep(CHECK_INTERVAL_S)


class Handler(BaseHTTPRequestHandler):
    """Handler that answers like an idle worker."""

    def do_GET(self) -> None:
        """Answer any path."""
        health: dict[str, object] = {
            "status": "idle",
            "worker_id": ID,
            "worker_type": KIND,
            "version": TAG,
            "commit": "light",
            "current_operation_id": None,
            "uptime_s": round(time.monotonic() - start, 3),
            "contracts": [],
            **registration,
        }
        body = json.dumps(health).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    threading.Thread(target=keep_registered, daemon=True).start()
    ThreadingHTTPServer(("0.0.0.0", PORT), Handler).serve_forever()
