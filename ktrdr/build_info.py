"""Versions that a result was computed with, for its reproduction."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Final

COMMIT_VARIABLE: Final = "KTRDR_COMMIT"


def code_version(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the release, and the commit that the image was built from if it is known."""
    return {"version": version("ktrdr"), "commit": environ.get(COMMIT_VARIABLE) or "unknown"}


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of the given libraries."""
    return {name: version(name) for name in names}
