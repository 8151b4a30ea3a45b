"""A registry that answers badly, for those hosts that are led to it."""

from __future__ import annotations

import json
import ssl
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lab import certificates
from lab.config import NETWORK
from lab.engine import docker
from lab.shell import run
from tests.chaos.deploy.hosts import Host

_MARK = "# chaos"
_STALL_S = 600.0
_RESOLVER_REMEMBERS_S = 5.5


class BrokenRegistry:
    """Listens where the hosts of the lab reach this machine, as `ghcr.io` with its certificate."""

    def __init__(self) -> None:
        template = "{{(index .IPAM.Config 0).Gateway}}"
        found = run(docker(), "network", "inspect", "--format", template, NETWORK)
        self._address = found.stdout.strip()
        self._manners: dict[str, str] = {}
        manners, over = self._manners, threading.Event()
        self._over = over

        class Handler(BaseHTTPRequestHandler):
            """Answers as the host that asks is to be answered."""

            def do_GET(self) -> None:
                """Any request."""
                manner = manners.get(self.client_address[0], "500")
                if manner == "stall":
                    over.wait(_STALL_S)
                    return
                body = json.dumps({"errors": [{"code": "UNKNOWN", "message": "broken"}]}).encode()
                self.send_response(int(manner))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with suppress(OSError):
                    self.wfile.write(body)

            def do_HEAD(self) -> None:
                """The same."""
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                """Nothing is logged."""

        self._server = ThreadingHTTPServer((self._address, 443), Handler)
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(
            certificates.DIRECTORY / "ghcr.io.crt", certificates.DIRECTORY / "ghcr.io.key"
        )
        # The handshake is each connection's own business: one that stalls holds nobody up.
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Ends it."""
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def serve(self, host: Host, manner: str) -> None:
        """Leads a host to this registry: ``500``, another status, or ``stall``."""
        self._manners[host.address] = manner
        with (host.root / "etc/hosts").open("a") as file:
            file.write(f"{self._address} ghcr.io {_MARK}\n")

    def leave(self, host: Host) -> None:
        """Leads it back to the right one."""
        path = host.root / "etc/hosts"
        kept = [line for line in path.read_text().splitlines(keepends=True) if _MARK not in line]
        # Written in place: the engine has mounted this very file.
        path.write_text("".join(kept))
        # Docker's resolver reads the file again when what it knows is 5 s old.
        time.sleep(_RESOLVER_REMEMBERS_S)
