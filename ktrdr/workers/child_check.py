"""Check that this worker can start a child process that can do its work."""

from __future__ import annotations

import asyncio
import logging
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from typing import Final

from ktrdr.errors import HostNotReady, last_line
from ktrdr.schemas import WorkerType
from ktrdr.settings import WorkerSettings
from ktrdr.workers.memory import child_memory_limit
from ktrdr.workers.process import child_environment

logger = logging.getLogger(__name__)

CHECK_AGAIN_S: Final = 5.0
# Libraries load within two seconds, unless many workers of a small host start at the same time.
TIMEOUT_S: Final = 60.0
HANDLERS: Final = {
    WorkerType.BACKTESTING: "ktrdr.backtesting.handler",
    WorkerType.TRAINING: "ktrdr.training.handler",
}


class ChildCheck:
    """Check at the start of a worker, and whenever a child process has failed to start.

    Attributes:
        problem: Why no operation can be run, or None.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        limit = child_memory_limit(settings.child_memory_mb)
        self._arguments = (HANDLERS[settings.worker_type], str(limit))
        self._suspected = asyncio.Event()
        # Work need not wait for the check, which takes long while a host starts many workers.
        self.problem: HostNotReady | None = None

    def suspect(self, reason: str) -> HostNotReady:
        """Return the problem that a child process does not start, and check again."""
        hint = "Check memory and processes that its container may use, or deploy another release."
        self.problem = HostNotReady(f"no child process can be started ({reason})", hint=hint)
        self._suspected.set()
        return self.problem

    async def run(self) -> None:
        """Check until a child process works, and again when one has failed; until cancelled."""
        while True:
            self._suspected.clear()
            if reason := await self._start():
                logger.warning("not ready: %s", self.suspect(reason))
                await asyncio.sleep(CHECK_AGAIN_S)
            else:
                self.problem = None
                await self._suspected.wait()

    async def _start(self) -> str:
        """Start a child that loads what operations need; return why that failed, or nothing."""
        command = (sys.executable, "-m", "ktrdr.workers.child", *self._arguments)
        try:
            process = await create_subprocess_exec(*command, stderr=PIPE, env=child_environment())
        except OSError as exc:
            return exc.strerror or type(exc).__name__
        try:
            async with asyncio.timeout(TIMEOUT_S):
                _, output = await process.communicate()
        except TimeoutError:
            return f"it was not ready after {TIMEOUT_S:.0f} s"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        code = process.returncode
        return f"exit code {code}: {last_line(output.decode(errors='replace'))}" if code else ""
