"""Every named query is used, and every use has its query."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3] / "ktrdr"
PACKAGES = sorted(path.parent for path in ROOT.rglob("sql") if path.is_dir())
QUERY = r'QUERIES\.(?:execute|fetch_one|fetch_all)\(\s*connection,\s*"([a-z_]+)"'


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_query_is_used_and_none_is_missing(package: Path) -> None:
    sources = "\n".join(path.read_text() for path in package.glob("*.py"))
    files = {path.stem for path in (package / "sql").glob("*.sql")}
    quoted = set(re.findall(r'"([a-z_]+)"', sources))
    assert files - quoted == set()
    assert set(re.findall(QUERY, sources)) - files == set()


def test_the_packages_with_queries_are_found() -> None:
    assert {package.name for package in PACKAGES} >= {"access", "fleet", "operations"}
