"""A worker without its libraries: registers, answers what a deploy asks, and does no work.

What a deploy does with it is what it does with a real one; that starts ten times slower. Runs as
``python3 -I -S`` and so knows nothing but the standard library.
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
LOOK_EVERY_S = 10.0
began = time.monotonic()
told: dict[str, bool | str | None] = {"registered": False, "registration_error": None}


def ask(url: str, body: object = None) -> bool:
    """Asks the backend; says whether it was pleased."""
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None)
    request.add_header("Authorization", f"Bearer {os.environ['WORKER_TOKEN']}")
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            status: int = answer.status
            return 200 <= status < 300
    except urllib.error.HTTPError as exc:
        told["registration_error"] = f"the backend refused with status {exc.code}"
    except OSError as exc:
        told["registration_error"] = f"the backend does not answer ({type(exc).__name__})"
    return False


def keep_registered() -> None:
    """Registers, and does so again when the backend has forgotten it."""
    while True:
        me = {"worker_id": ID, "worker_type": KIND, "endpoint_url": URL, "version": TAG}
        told["registered"] = ask(f"{WORKERS}/register", me)
        if not told["registered"]:
            time.sleep(0.5)
            continue
        told["registration_error"] = None
        time.sleep(LOOK_EVERY_S)
        while ask(f"{WORKERS}/{ID}"):
            time.sleep(LOOK_EVERY_S)


class Handler(BaseHTTPRequestHandler):
    """Answers like a worker that has nothing to do."""

    def do_GET(self) -> None:
        """Any path."""
        health: dict[str, object] = {
            "status": "idle",
            "worker_id": ID,
            "worker_type": KIND,
            "version": TAG,
            "commit": "light",
            "current_operation_id": None,
            "uptime_s": round(time.monotonic() - began, 3),
            "contracts": [],
            **told,
        }
        body = json.dumps(health).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    threading.Thread(target=keep_registered, daemon=True).start()
    ThreadingHTTPServer(("0.0.0.0", PORT), Handler).serve_forever()
