"""Simulated workers in one process, each with a port and a valid response to ``GET /health``.

Started as ``python -m benchmarks.runtime.simulated_workers COUNT``. It writes its ports to standard
output, one per line, once all listen. It replaces workers only for the backend's health checks.
"""

from __future__ import annotations

import asyncio
import sys

from ktrdr.schemas import WorkerHealth, WorkerType

HOST = "127.0.0.1"


def simulated_worker_id(port: int) -> str:
    """Return the id of the worker at a port."""
    return f"simulated-{port}"


class SimulatedWorker(asyncio.Protocol):
    """Connection to a simulated worker, which reads only the head of a request."""

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        port = transport.get_extra_info("sockname")[1]
        body = _health(port).model_dump_json().encode()
        head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n"
        self._response = head.format(len(body)).encode() + body

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            self._received = self._received.partition(b"\r\n\r\n")[2]
            self._transport.write(self._response)


def _health(port: int) -> WorkerHealth:
    return WorkerHealth(
        status="idle",
        worker_id=simulated_worker_id(port),
        worker_type=WorkerType.BACKTESTING,
        version="sha-7e57ed0",
        commit="7e57ed0",
        current_operation_id=None,
        registered=True,
        uptime_s=1.0,
    )


async def serve(count: int) -> None:
    """Listen on ``count`` ports until killed."""
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(SimulatedWorker, HOST, 0) for _ in range(count)]
    for server in servers:
        sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
