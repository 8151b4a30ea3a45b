"""A stand-in for Grafana, for the lab only.

It handles the administrator's password like the original: it reads the environment only at the
first start. Later, the API or `grafana cli admin reset-admin-password --password-from-stdin`
changes the password. It reads the provisioned data sources and dashboards from the directories of
the original. Its page says that it is a stand-in.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import json
import os
import re
import secrets
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

DATA = Path("/var/lib/grafana")
DATA_SOURCES = Path("/etc/grafana/provisioning/datasources")
DASHBOARDS = DATA / "dashboards"
PASSWORD = DATA / "admin.json"


def first_password() -> str:
    file = os.environ.get("GF_SECURITY_ADMIN_PASSWORD__FILE")
    if file:
        # The original's entry point reads it with $(<FILE) of the shell, which strips newlines.
        return Path(file).read_text(encoding="utf-8").rstrip("\n")
    return os.environ.get("GF_SECURITY_ADMIN_PASSWORD") or "admin"


def store_password(password: str) -> None:
    salt = secrets.token_hex(16)
    PASSWORD.write_text(json.dumps({"salt": salt, "hash": hash_password(password, salt)}))


def hash_password(password: str, salt: str) -> str:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), bytes.fromhex(salt), 10_000).hex()


def is_password(password: str) -> bool:
    stored = json.loads(PASSWORD.read_text())
    return hmac.compare_digest(stored["hash"], hash_password(password, stored["salt"]))


def data_sources() -> list[dict[str, Any]]:
    """Return name, type and URL of each; a regular expression suffices for these files."""
    sources: list[dict[str, Any]] = []
    for file in sorted(DATA_SOURCES.glob("*.yml")):
        for entry in re.split(r"(?m)^\s*- ", file.read_text())[1:]:
            fields = dict(re.findall(r"(?m)^\s*(name|type|url|uid|isDefault):\s*(\S.*)$", entry))
            if "type" in fields:
                sources.append({"id": len(sources) + 1, **fields})
    return sources


def dashboards() -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(DASHBOARDS.glob("*.json"))]


def page() -> str:
    rows = []
    for board in dashboards():
        panels = ", ".join(html.escape(p.get("title", "")) for p in board.get("panels", []))
        rows.append(f"<h2>{html.escape(board.get('title', ''))}</h2><p>{panels}</p>")
    sources = ", ".join(html.escape(f"{s['name']} ({s['url']})") for s in data_sources())
    return (
        '<!doctype html><meta charset="utf-8"><title>Grafana (stand-in)</title>'
        "<style>body{font:16px sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}</style>"
        "<h1>A stand-in for Grafana</h1><p>The lab cannot download the original. Grafana would "
        "have these data sources and dashboards:</p>"
        f"<p><b>Data sources:</b> {sources}</p>{''.join(rows)}"
    )


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/api/health":
            self.answer(200, {"database": "ok", "version": "stand-in"})
        elif self.path == "/":
            self.write(200, "text/html; charset=utf-8", page().encode())
        elif not self.is_admin():
            self.answer(401, {"message": "Invalid username or password"})
        elif self.path == "/api/datasources":
            self.answer(200, data_sources())
        elif self.path.startswith("/api/search"):
            self.answer(200, [{"uid": b.get("uid"), "title": b.get("title")} for b in dashboards()])
        elif self.path.startswith("/api/dashboards/uid/"):
            uid = self.path.rpartition("/")[2]
            board = next((b for b in dashboards() if b.get("uid") == uid), None)
            status = 200 if board else 404
            self.answer(status, {"dashboard": board} if board else {"message": "not found"})
        elif self.path == "/api/org":
            self.answer(200, {"id": 1, "name": "Main Org."})
        else:
            self.answer(404, {"message": "not supported by this stand-in"})

    def do_PUT(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length) or b"{}")
        if not self.is_admin():
            self.answer(401, {"message": "Invalid username or password"})
        elif self.path != "/api/user/password":
            self.answer(404, {"message": "not supported by this stand-in"})
        elif not is_password(body.get("oldPassword", "")):
            self.answer(401, {"message": "invalid old password"})
        elif body.get("newPassword"):
            store_password(body["newPassword"])
            self.answer(200, {"message": "User password changed"})
        else:
            self.answer(400, {"message": "New password is too short"})

    def is_admin(self) -> bool:
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return False
        user, _, password = base64.b64decode(given).decode(errors="replace").partition(":")
        return user == "admin" and is_password(password)

    def answer(self, status: int, value: Any) -> None:
        self.write(status, "application/json", json.dumps(value).encode())

    def write(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing, because health checks arrive every few seconds."""


def reset_password() -> None:
    """Reset the password; like the original, read only the first line."""
    if sys.argv[1:] != ["cli", "admin", "reset-admin-password", "--password-from-stdin"]:
        raise SystemExit("not supported by this stand-in")
    store_password(sys.stdin.readline().rstrip("\n"))
    print("Admin password changed successfully ✔")


if __name__ == "__main__":
    if sys.argv[1:]:
        reset_password()
        raise SystemExit
    if not PASSWORD.exists():
        store_password(first_password())
    print("stand-in for Grafana", flush=True)
    ThreadingHTTPServer(("0.0.0.0", 3000), Handler).serve_forever()
