"""Print the health document of the server in this container, on one line.

Inside its container, the server responds even if the host does not publish its port, and the host
needs no further program. With HTTP/1.0, the response ends with the connection.
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
