"""A registry that fails, for the hosts that are redirected to it."""

from __future__ import annotations

import json
import ssl
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lab import certificates
from lab.config import BRIDGE, NUMBER, PREFIX_LENGTH
from lab.shell import run
from tests.chaos.deploy.hosts import Host

# The real registry has the bridge's first address.
_ADDRESS = f"10.77.{NUMBER}.2"
_MARK = "# chaos"
_STALL_S = 600.0
_RESOLVER_CACHE_S = 5.5


class BrokenRegistry:
    """Failing registry that listens as `ghcr.io` on an address that the lab's hosts reach."""

    def __init__(self) -> None:
        self._address = _ADDRESS
        run("ip", "address", "replace", f"{_ADDRESS}/{PREFIX_LENGTH}", "dev", BRIDGE)
        self._behaviours: dict[str, str] = {}
        behaviours, closed = self._behaviours, threading.Event()
        self._closed = closed

        class Handler(BaseHTTPRequestHandler):
            """Handler with a behaviour for each client host."""

            def do_GET(self) -> None:
                """Answer any request."""
                behaviour = behaviours.get(self.client_address[0], "500")
                if behaviour == "stall":
                    closed.wait(_STALL_S)
                    return
                body = json.dumps({"errors": [{"code": "UNKNOWN", "message": "broken"}]}).encode()
                self.send_response(int(behaviour))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with suppress(OSError):
                    self.wfile.write(body)

            def do_HEAD(self) -> None:
                """Answer any request."""
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer((self._address, 443), Handler)
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(
            certificates.DIRECTORY / "ghcr.io.crt", certificates.DIRECTORY / "ghcr.io.key"
        )
        # Handshakes happen in the threads of the connections, so that a stalled one blocks none.
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop the server."""
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()

    def redirect(self, host: Host, behaviour: str) -> None:
        """Redirect a host to this registry, which answers with a status or with ``stall``."""
        self._behaviours[host.address] = behaviour
        host.write("/etc/hosts", f"{self._address} ghcr.io {_MARK}\n", append=True)

    def restore(self, host: Host) -> None:
        """Redirect a host to the real registry."""
        host.run(f"sed -i '/{_MARK}/d' /etc/hosts")
        # Docker's resolver caches the file for 5 s.
        time.sleep(_RESOLVER_CACHE_S)
