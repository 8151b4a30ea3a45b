"""Print what the server in this container says of its health, on one line.

It is reached there whatever the host publishes, and needs no program of the host. HTTP/1.0, so that
the answer ends with the connection.
"""

import os
import socket
import sys

worker = os.environ.get("WORKER_PORT")
path = "/health" if worker else "/api/v1/health"
with socket.create_connection(("127.0.0.1", int(worker or 8000)), 5) as server:
    server.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    answer = server.makefile("rb").read().decode("utf-8", "replace")
sys.stdout.write(" ".join(answer.partition("\r\n\r\n")[2].split()) + "\n")
