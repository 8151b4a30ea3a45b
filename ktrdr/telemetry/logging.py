"""Logs on standard error: one JSON object per line, with its trace id."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from opentelemetry import trace

# Attributes of every record. Any other attribute was passed as ``extra`` and is written too.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Libraries that log every poll of the database or every health check.
_QUIET: Final = ("procrastinate", "httpx", "httpcore", "psycopg.pool", "uvicorn.access")

# Exception of the queue's library, logged with a traceback, when the database is unavailable.
_DATABASE_AWAY: Final = "ConnectorException"


class JsonFormatter(logging.Formatter):
    """Formatter that writes a record as one line of JSON."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__()
        self._fields = dict(fields)

    def format(self, record: logging.LogRecord) -> str:
        """Return time, level, logger, message, extra attributes and trace id as JSON."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, tz=UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self._fields,
        }
        entry |= {k: v for k, v in vars(record).items() if k not in _STANDARD}
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            entry["trace_id"] = f"{context.trace_id:032x}"
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def _shorten_database_errors(record: logging.LogRecord) -> bool:
    """Replace the traceback of an unavailable database by a sentence."""
    kind = record.exc_info[0] if record.exc_info else None
    if record.name.startswith("procrastinate") and kind and kind.__name__ == _DATABASE_AWAY:
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args = "the queue lost the database connection", ()
        record.exc_info = record.exc_text = None
    return True


def set_up_logging(level: str, **fields: str) -> None:
    """Write all logs of this process to standard error as JSON lines.

    Args:
        level: Lowest level that is written.
        fields: Fields of every line, such as ``service``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(fields))
    handler.addFilter(_shorten_database_errors)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
