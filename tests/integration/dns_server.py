"""Stand-in for a DNS server: knows one name. Usage: dns_server.py NAME COMMAND...

Runs the command when it answers on 127.0.0.1:53, and ends with it.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading


def answer(query: bytes, name: bytes) -> bytes:
    """Return the response to a query: an address for the name, or that there is no such name."""
    asked = b"".join(bytes([len(label)]) + label for label in name.split(b".")) + b"\0"
    question = query[12 : query.index(b"\0", 12) + 5]
    is_known = (
        question.lower().startswith(asked) and question[len(asked) : len(asked) + 2] == b"\0\1"
    )
    flags = b"\x81\x80" if question.lower().startswith(asked) else b"\x81\x83"
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x0a\1\2\3" if is_known else b""
    counts = b"\0\1" + (b"\0\1" if is_known else b"\0\0") + b"\0\0\0\0"
    return query[:2] + flags + counts + question + record


def main() -> int:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))

    def serve() -> None:
        while True:
            query, client = server.recvfrom(512)
            server.sendto(answer(query, sys.argv[1].encode()), client)

    threading.Thread(target=serve, daemon=True).start()
    return subprocess.run(sys.argv[2:], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
