"""Named SQL: every query is a file ``sql/NAME.sql`` in the room that owns it."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import LiteralString


@cache
def query(room: str, name: str) -> LiteralString:
    """The text of ``sql/NAME.sql`` of a room such as ``ktrdr.operations``.

    Raises:
        FileNotFoundError: There is no such file; a mistake in the program.
    """
    return resources.files(room).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
