"""Every named query is used, and every use has its query."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[3] / "ktrdr"
ROOMS = sorted(path.parent for path in PACKAGE.rglob("sql") if path.is_dir())


@pytest.mark.parametrize("room", ROOMS, ids=lambda path: path.name)
def test_every_query_is_used_and_none_is_missing(room: Path) -> None:
    sources = "\n".join(path.read_text() for path in room.glob("*.py"))
    named = {path.stem for path in (room / "sql").glob("*.sql")}
    quoted = set(re.findall(r'"([a-z_]+)"', sources))
    assert named - quoted == set()
    asked = set(re.findall(r'_sql\("([a-z_]+)"\)', sources))
    assert asked - named == set()


def test_there_are_rooms_with_queries() -> None:
    assert {room.name for room in ROOMS} >= {"operations", "fleet"}
