"""What paths of the API hold, checked before anything is done with it."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends

from ktrdr.api.auth import Caller
from ktrdr.errors import NotFound
from ktrdr.schemas import OPERATION_ID_PATTERN


def _known_shape(_caller: Caller, operation_id: str) -> str:
    # After the caller: whoever has no token is told nothing else.
    if not re.fullmatch(OPERATION_ID_PATTERN, operation_id):
        raise NotFound(
            f"{operation_id!r} is no operation's id",
            hint="`ktrdr operations list` shows what there is.",
        )
    return operation_id


Id = Annotated[str, Depends(_known_shape)]
