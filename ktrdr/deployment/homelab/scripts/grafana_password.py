"""Check or set the password of the administrator of Grafana, from the container of the backend.

Usage: python3 grafana_password.py check|set SECONDS

That container is in the network of Grafana and has Python. Standard input contains the password.
With "set", a line with the currently valid password precedes it. Exits with 3 if Grafana rejects
the password, and with 4 if it does not respond within SECONDS, or responds with another error.
"""

import base64
import http.client
import json
import sys
import time


def ask(method: str, path: str, password: str, body: dict[str, str] | None = None) -> int:
    """Send a request as the administrator; return the status of the response."""
    login = base64.b64encode(f"admin:{password}".encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
    server = http.client.HTTPConnection("grafana", 3000, timeout=10)
    server.request(method, path, json.dumps(body) if body else None, headers)
    return server.getresponse().status


valid, password = "", sys.stdin.buffer.read().decode()
if sys.argv[1] == "set":
    valid, _, password = password.partition("\n")
deadline = time.monotonic() + float(sys.argv[2])
while True:
    try:
        if valid:
            change = {"oldPassword": valid, "newPassword": password, "confirmNew": password}
            ask("PUT", "/api/user/password", valid, change)
            valid = ""
        status = ask("GET", "/api/org", password)
    except (OSError, http.client.HTTPException):
        status = 503
    if status < 500 or time.monotonic() > deadline:
        sys.exit({200: 0, 401: 3, 403: 3}.get(status, 4))
    time.sleep(0.3)
