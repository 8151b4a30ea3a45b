"""How much the tests try: a selection by default, and everything with ``KTRDR_THOROUGH=1``.

`make test` and `make integration` try everything, `make check` the selection.
"""

from __future__ import annotations

import os
from typing import Final

IS_THOROUGH: Final = os.environ.get("KTRDR_THOROUGH") == "1"
# Random examples of a property, unless its test sets another number.
EXAMPLES: Final = 150 if IS_THOROUGH else 40
