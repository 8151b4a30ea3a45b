"""Logs: one JSON object a line on standard error, with the trace they belong to."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from opentelemetry import trace

# What every record has; anything else was passed as ``extra`` and is wanted in the output.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Libraries that would log every poll of the database or every health check.
_QUIET: Final = ("procrastinate", "httpx", "httpcore", "psycopg.pool", "uvicorn.access")


# How the queue's library says, with a page of traceback, that the database is away.
_DATABASE_AWAY: Final = "ConnectorException"


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON."""

    def __init__(self, constant: Mapping[str, str]) -> None:
        super().__init__()
        self._constant = dict(constant)

    def format(self, record: logging.LogRecord) -> str:
        """The record's time, level, logger, message, extras and trace id."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, tz=UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self._constant,
        }
        entry |= {k: v for k, v in vars(record).items() if k not in _STANDARD}
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            entry["trace_id"] = f"{context.trace_id:032x}"
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def _in_a_sentence(record: logging.LogRecord) -> bool:
    """Leaves the traceback out where the fault is a foreseeable one."""
    kind = record.exc_info[0] if record.exc_info else None
    if record.name.startswith("procrastinate") and kind and kind.__name__ == _DATABASE_AWAY:
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args = "the queue lost the database", ()
        record.exc_info = record.exc_text = None
    return True


def set_up_logging(level: str, **constant: str) -> None:
    """Sends all logging of this process to standard error as JSON lines.

    Args:
        level: The least level that is written.
        constant: Stands in every line, such as ``service``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(constant))
    handler.addFilter(_in_a_sentence)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
