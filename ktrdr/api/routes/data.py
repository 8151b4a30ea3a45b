"""Routes of market data: listing, import and removal of datasets."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import IO, Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from ktrdr.api.auth import Caller, OperatorCaller, require_shared_directory
from ktrdr.api.errors import describe_errors
from ktrdr.api.state import StateDep
from ktrdr.errors import HostNotReady
from ktrdr.marketdata.catalogue import delete_dataset, describe_datasets, list_datasets
from ktrdr.marketdata.importing import import_csv
from ktrdr.schemas import NAME_PATTERN
from ktrdr.schemas.data import Dataset, DatasetDetails, ImportReport, ImportRequest

router = APIRouter(prefix="/data", tags=["data"], dependencies=[Depends(require_shared_directory)])

# Larger uploads go to a file in the shared directory, because the container's own is small.
MAX_IN_MEMORY_BYTES: Final = 16 * 1024 * 1024
PathName = Annotated[str, Path(pattern=NAME_PATTERN)]


@router.get("", responses=describe_errors(401))
async def list_all_datasets(_caller: Caller, state: StateDep) -> list[Dataset]:
    """List the datasets in the shared directory."""
    return await asyncio.to_thread(list_datasets, state.settings.shared_mount_path / "data")


@router.get("/{symbol}", responses=describe_errors(401, 404, 422))
async def list_datasets_of_symbol(
    symbol: PathName, _caller: Caller, state: StateDep
) -> list[DatasetDetails]:
    """Return the details of a symbol's datasets."""
    return await asyncio.to_thread(
        describe_datasets, state.settings.shared_mount_path / "data", symbol
    )


@router.get("/{symbol}/{timeframe}", responses=describe_errors(401, 404, 422))
async def get_dataset(
    symbol: PathName, timeframe: PathName, _caller: Caller, state: StateDep
) -> DatasetDetails:
    """Return the details of a dataset: hash, provenance, repairs and gaps."""
    root = state.settings.shared_mount_path / "data"
    (details,) = await asyncio.to_thread(describe_datasets, root, symbol, timeframe)
    return details


@router.put(
    "/{symbol}/{timeframe}",
    status_code=201,
    responses={200: {"model": ImportReport}, **describe_errors(401, 403, 413, 422)},
)
async def import_dataset(
    symbol: PathName,
    timeframe: PathName,
    options: Annotated[ImportRequest, Query()],
    caller: OperatorCaller,
    state: StateDep,
    request: Request,
    response: Response,
) -> ImportReport:
    """Check a CSV file, plain or gzip, row by row, and replace the dataset.

    A dry run writes nothing and returns 200, even for a file that would be rejected.
    """
    shared = state.settings.shared_mount_path
    if options.dry_run:
        response.status_code = 200
    async with _receive_body(request, str(shared)) as body:
        report = await asyncio.to_thread(
            import_csv,
            body,
            shared / "data",
            symbol,
            timeframe,
            options,
            imported_by=caller.subject,
            now=datetime.now(UTC),
        )
    if not options.dry_run:
        await state.audit.record(caller, "data.import", f"{symbol}/{timeframe}")
    return report


@router.delete(
    "/{symbol}/{timeframe}", status_code=204, responses=describe_errors(401, 403, 404, 422)
)
async def remove_dataset(
    symbol: PathName, timeframe: PathName, caller: OperatorCaller, state: StateDep
) -> None:
    """Remove a dataset; the results computed with it are kept."""
    root = state.settings.shared_mount_path / "data"
    await asyncio.to_thread(delete_dataset, root, symbol, timeframe)
    await state.audit.record(caller, "data.remove", f"{symbol}/{timeframe}")


@asynccontextmanager
async def _receive_body(request: Request, directory: str) -> AsyncIterator[IO[bytes]]:
    """Receive the body into memory, or into a nameless file of ``directory`` if it is large."""
    with tempfile.SpooledTemporaryFile(max_size=MAX_IN_MEMORY_BYTES, dir=directory) as body:
        async for chunk in request.stream():
            try:
                # A slow disk must not block other requests.
                await asyncio.to_thread(body.write, chunk)
            except OSError as exc:
                raise HostNotReady(
                    f"cannot write the upload to the shared directory {directory} ({exc.strerror})",
                    hint="Check that it is mounted, has space and belongs to user 10001.",
                ) from exc
        body.seek(0)
        yield body
