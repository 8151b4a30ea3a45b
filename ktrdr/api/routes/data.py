"""Market data: what there is, and bringing more in."""

from __future__ import annotations

import asyncio
import tempfile
from typing import Annotated, Final

from fastapi import APIRouter, Path, Request

from ktrdr.api.auth import Caller, Operator
from ktrdr.api.errors import documented
from ktrdr.api.state import BackendState
from ktrdr.contracts import NAME_PATTERN, Dataset
from ktrdr.errors import UsageError
from ktrdr.marketdata.catalogue import import_csv, list_datasets

router = APIRouter(prefix="/data", tags=["data"])

MAX_UPLOAD: Final = 512 * 1024 * 1024
# What fits in memory stays there; the container's temporary directory is small.
IN_MEMORY: Final = 16 * 1024 * 1024
SafeName = Annotated[str, Path(pattern=NAME_PATTERN)]


@router.get("", responses=documented(401))
async def datasets(_caller: Caller, state: BackendState) -> list[Dataset]:
    """The datasets in the shared directory."""
    return await asyncio.to_thread(list_datasets, state.settings.shared_mount_path / "data")


@router.put("/{symbol}/{timeframe}", status_code=201, responses=documented(401, 403, 413, 422))
async def import_dataset(
    symbol: SafeName, timeframe: SafeName, _caller: Operator, state: BackendState, request: Request
) -> Dataset:
    """Checks a CSV file, plain or gzip, row by row and puts it in place of what was there."""
    root = state.settings.shared_mount_path / "data"
    with tempfile.SpooledTemporaryFile(
        max_size=IN_MEMORY, dir=str(state.settings.shared_mount_path)
    ) as body:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > MAX_UPLOAD:
                raise UsageError(
                    f"the file is larger than {MAX_UPLOAD // 1024**2} MB",
                    hint="Split it by timeframe or symbol.",
                )
            body.write(chunk)
        body.seek(0)
        return await asyncio.to_thread(import_csv, body, root, symbol, timeframe)
