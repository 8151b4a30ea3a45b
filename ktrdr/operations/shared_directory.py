"""Shared directory of backend and workers, which they recognise by a mark.

The mark is a file with an id that the database contains, too; the backend creates both once. A
directory without it, or with another id, is usually the empty one below a mount that is missing.
While the database contains no id, as with a backend of an earlier release, workers do not check.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID, uuid4

import psycopg
from psycopg.errors import UndefinedTable

from ktrdr.database.pool import Pool, autocommit
from ktrdr.errors import DatabaseUnavailable, HostNotReady
from ktrdr.fitness import Progress, find_stuck
from ktrdr.operations.queries import QUERIES
from ktrdr.settings import Settings

logger = logging.getLogger(__name__)

MARK: Final = ".ktrdr-share"
CHECK_EVERY_S: Final = 5.0
DISK_TIMEOUT_S: Final = 3.0
# With less free space, an operation could write no more than its log.
MINIMUM_FREE_BYTES: Final = 1024 * 1024
_MAX_MARK_BYTES: Final = 200
_HINT: Final = "Check that it is mounted, has space and belongs to user 10001."


class DirectoryUsage(NamedTuple):
    """Size and free space of the shared directory's file system (bytes)."""

    size: int = 0
    free: int = 0


class SharedDirectory:
    """Shared directory of this process; the backend creates its mark.

    Attributes:
        problem: Reason why the directory could not be used at the last check, or None.
        progress: Progress of the checks.
        usage: Size and free space at the last check; 0 if it could not be used.
    """

    def __init__(self, settings: Settings, pool: Pool, *, creates_mark: bool = False) -> None:
        self._mark, self._restart_s = settings.shared_mount_path / MARK, settings.shared_restart_s
        self._pool, self._creates_mark = pool, creates_mark
        self._id: str | None = None
        self._is_compared = False
        self._wrong_since: float | None = None
        self._reading: asyncio.Future[tuple[str, str, DirectoryUsage]] | None = None
        self._must_write = False
        self._write_problem: HostNotReady | None = None
        self.progress = Progress("the check of the shared directory", 3 * CHECK_EVERY_S)
        self.usage = DirectoryUsage()
        self.problem: HostNotReady | None = HostNotReady(
            f"the shared directory {self._mark.parent} has not been checked yet"
        )

    @property
    def unfit(self) -> HostNotReady | None:
        """Return why no operation can use the directory; files of one that is full can be read."""
        return self.problem or self._write_problem or find_stuck([self.progress])

    def suspect(self) -> None:
        """Have the next checks write a file, until that succeeds: an operation has just failed."""
        self._must_write = True

    def forget(self) -> None:
        """Ask the database for the id again, because it has become another one."""
        self._id = None

    async def run(self, is_busy: Callable[[], bool] = lambda: False) -> None:
        """Check the directory regularly, until cancelled.

        If it stays the wrong one, end this process as soon as it is not busy: Docker starts it
        again, with what is mounted on the host then. A running container sees no later mounts.
        """
        while True:
            await self.check()
            wrong_s = time.monotonic() - self._wrong_since if self._wrong_since else 0.0
            if self._restart_s and wrong_s > self._restart_s and not is_busy():
                logger.warning("ending, to be started again with the right shared directory")
                os.kill(os.getpid(), signal.SIGTERM)
                return
            await asyncio.sleep(CHECK_EVERY_S)

    async def require(self) -> None:
        """Check the directory.

        Raises:
            HostNotReady: It cannot be used.
        """
        if problem := await self.check():
            raise problem

    async def check(self) -> HostNotReady | None:
        """Compare the mark with the database, and return the reason not to use the directory."""
        reason, is_wrong, hint = "", False, _HINT
        write_reason, usage = "", DirectoryUsage()
        try:
            self._id = self._id or await self._find_id()
            self._is_compared = True
            mark, write_reason, usage = await self._inspect()
            if self._id and mark != self._id:
                # The database may have been restored since it was asked.
                with suppress(DatabaseUnavailable, psycopg.Error):
                    self._id = await self._find_id() or self._id
                if mark != self._id:
                    is_wrong = True
                    difference = "has another id than the database" if mark else "is missing"
                    reason = f"is not the right one: its file {MARK} {difference}"
                    hint = (
                        "Mount the right one on this host: this service then continues by itself. "
                        f"Or write {self._id} into that file, if this one is to be used from now "
                        "on (docs/storage.md)."
                    )
        except (DatabaseUnavailable, psycopg.Error):
            if not self._is_compared:
                reason = "cannot be compared with the database, which is not available yet"
                hint = "Check that the database runs, and accepts the password."
        except OSError as exc:
            is_wrong = not isinstance(exc, TimeoutError)
            reason = f"cannot be used ({exc.strerror})" if is_wrong else "does not respond"
        before, message = self.unfit, f"the shared directory {self._mark.parent} "
        self._wrong_since = (self._wrong_since or time.monotonic()) if is_wrong else None
        self.problem = HostNotReady(message + reason, hint=hint) if reason else None
        message += f"cannot be used ({write_reason})"
        self._write_problem = HostNotReady(message, hint=_HINT) if write_reason else None
        self.usage = usage
        self.progress.made()
        if self.unfit and str(self.unfit) != str(before):
            logger.warning("not ready: %s", self.unfit)
        return self.problem

    async def _inspect(self) -> tuple[str, str, DirectoryUsage]:
        """Read the mark and the usage, and find out why nothing can be written.

        A thread that reads the directory of a server that is away is blocked until it returns. So
        there is one at a time, or else they would occupy all threads.
        """
        if self._reading is None or self._reading.done():
            writes, self._must_write = self._must_write, False
            work = asyncio.to_thread(_inspect, self._mark, must_write=writes)
            self._reading = asyncio.ensure_future(work)
        async with asyncio.timeout(DISK_TIMEOUT_S):
            result = await asyncio.shield(self._reading)
        # The next check tries again.
        self._must_write |= bool(result[1])
        return result

    async def _find_id(self) -> str | None:
        """Return the id in the database, or None if it has none.

        Raises:
            DatabaseUnavailable: It cannot be asked now.
            OSError: The mark cannot be created.
        """
        with suppress(UndefinedTable):
            async with autocommit(self._pool) as connection:
                row = await QUERIES.fetch_one(connection, "find_shared_directory")
                if row is None and self._creates_mark:
                    # The mark of an earlier database is kept.
                    new = await _on_disk(_keep_or_create_mark, self._mark)
                    row = await QUERIES.fetch_one(
                        connection, "insert_shared_directory", directory_id=new
                    )
                return str(row["directory_id"]) if row else None
        return None


def _inspect(mark: Path, *, must_write: bool) -> tuple[str, str, DirectoryUsage]:
    """Return the id in a mark, why nothing can be written beside it, and the usage."""
    content, directory = _read_mark(mark), mark.parent
    system = os.statvfs(directory)
    usage = DirectoryUsage(system.f_blocks * system.f_frsize, system.f_bavail * system.f_frsize)
    code = 0
    if system.f_flag & os.ST_RDONLY:
        code = errno.EROFS
    elif not os.access(directory, os.W_OK | os.X_OK):
        code = errno.EACCES
    elif usage.free < MINIMUM_FREE_BYTES:
        code = errno.ENOSPC
    elif must_write:
        code = _try_to_write(directory)
    return content, os.strerror(code) if code else "", usage


def _try_to_write(directory: Path) -> int:
    """Write a file, and delete it; return the number of the error, or 0."""
    try:
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".ktrdr-test-") as file:
            file.write(bytes(MINIMUM_FREE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        return exc.errno or errno.EIO
    return 0


async def _on_disk(work: Callable[[Path], str], file: Path) -> str:
    # A server that is away does not answer.
    async with asyncio.timeout(DISK_TIMEOUT_S):
        return await asyncio.to_thread(work, file)


def _read_mark(file: Path) -> str:
    """Return the id in a mark, or other text that is there; empty without a mark."""
    try:
        # Another host may have replaced the file by a link or a pipe.
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return ""
    try:
        text = os.read(descriptor, _MAX_MARK_BYTES).decode(errors="replace")
    finally:
        os.close(descriptor)
    line = text.partition("\n")[0].strip()
    with suppress(ValueError):
        return str(UUID(line))
    return line


def _keep_or_create_mark(file: Path) -> str:
    """Create a mark, unless there is one, and return its id."""
    with suppress(ValueError):
        return str(UUID(_read_mark(file)))
    new = str(uuid4())
    with file.open("w", encoding="ascii") as mark:
        mark.write(f"{new}\nKTRDR recognises its shared directory by this file. Keep it.\n")
        mark.flush()
        os.fsync(mark.fileno())
    return new
