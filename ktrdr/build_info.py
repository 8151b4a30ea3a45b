"""What a result was made by, so that it can be made again, or told that it cannot."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Final

COMMIT_VARIABLE: Final = "KTRDR_COMMIT"


def code(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The release, and the commit that the image was built from if it says so."""
    return {"version": version("ktrdr"), "commit": environ.get(COMMIT_VARIABLE) or "unknown"}


def libraries(names: Iterable[str]) -> dict[str, str]:
    """The installed versions of some libraries."""
    return {name: version(name) for name in names}
