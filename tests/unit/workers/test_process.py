"""The operation that a worker runs, and the requests to stop it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import cast

from ktrdr.operations.model import Lease
from ktrdr.schemas import OperationStatus, OperationType
from ktrdr.workers.messages import STOP, ChildTask
from ktrdr.workers.process import ChildProcess, CurrentOperation, start_child
from ktrdr.workers.storage import Workspace

OPERATION = "op_backtest_20261123_164500_1a2b3c4d"


class RecordingChild:
    """Stand-in for a child process that records what is sent to it."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.kills = 0

    def send(self, line: bytes) -> None:
        self.received.append(line)

    def kill(self) -> None:
        self.kills += 1


def current_operation(tmp_path: Path) -> CurrentOperation:
    workspace = Workspace(tmp_path, Lease(OPERATION, 1))
    return CurrentOperation(OPERATION, OperationType.BACKTEST, workspace)


def test_a_stop_before_the_child_starts_is_sent_to_the_child(tmp_path: Path) -> None:
    async def stop_then_start() -> tuple[RecordingChild, CurrentOperation]:
        child, current = RecordingChild(), current_operation(tmp_path)
        current.stop(OperationStatus.PENDING, 60)
        current.set_child(cast("ChildProcess", child), 0)
        await asyncio.sleep(0.01)
        return child, current

    child, current = asyncio.run(stop_then_start())
    assert (child.received, child.kills) == ([STOP], 1)
    assert current.stop_reason is OperationStatus.PENDING


def test_a_child_is_asked_to_stop_once_and_the_first_reason_counts(tmp_path: Path) -> None:
    async def start_then_stop() -> tuple[RecordingChild, CurrentOperation]:
        child, current = RecordingChild(), current_operation(tmp_path)
        current.set_child(cast("ChildProcess", child), 60)
        current.stop(OperationStatus.CANCELLED, 60)
        current.stop(OperationStatus.PENDING, 60)
        return child, current

    child, current = asyncio.run(start_then_stop())
    assert child.received == [STOP]
    assert current.stop_reason is OperationStatus.CANCELLED


def test_a_child_inherits_the_variables_of_its_node_and_no_secret(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "CHILD_VARIABLES": "GREETING MISSING",
        "GREETING": "hello",
        "DB_PASSWORD": "hidden",
    }
    task = ChildTask("op-1", "backtest", {}, str(tmp_path), str(tmp_path), str(tmp_path), None)

    log = tmp_path / "log"

    async def environment_of_child() -> bytes:
        with log.open("wb") as file:
            async with start_child(task, file, environment) as child:
                place = Path(f"/proc/{child._process.pid}/environ")
                return await asyncio.to_thread(place.read_bytes)

    inherited = asyncio.run(environment_of_child()).split(b"\0")
    assert b"GREETING=hello" in inherited
    assert not any(each.startswith((b"DB_PASSWORD", b"MISSING")) for each in inherited)
