"""How much the tests try: a selection by default, and everything with ``KTRDR_THOROUGH=1``.

`make test` and `make integration` try everything, `make check` the selection.
"""

from __future__ import annotations

import os
from typing import Final

IS_THOROUGH: Final = os.environ.get("KTRDR_THOROUGH") == "1"


def examples(thorough: int) -> int:
    """Return the number of random examples of a property, given that of a thorough run."""
    return thorough if IS_THOROUGH else max(5, thorough * 4 // 15)
