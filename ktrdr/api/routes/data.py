"""Market data: what there is, bringing more in, and removing it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import IO, Annotated, Final

from fastapi import APIRouter, Path, Query, Request, Response

from ktrdr.api.auth import Caller, Operator
from ktrdr.api.errors import documented
from ktrdr.api.state import BackendState
from ktrdr.errors import HostNotReady
from ktrdr.marketdata.catalogue import delete_dataset, describe_datasets, list_datasets
from ktrdr.marketdata.importing import import_csv
from ktrdr.schemas import NAME_PATTERN
from ktrdr.schemas.data import Dataset, DatasetDetails, ImportReport, ImportRequest

router = APIRouter(prefix="/data", tags=["data"])

# What fits in memory stays there; the container's temporary directory is small.
IN_MEMORY: Final = 16 * 1024 * 1024
SafeName = Annotated[str, Path(pattern=NAME_PATTERN)]


@router.get("", responses=documented(401))
async def datasets(_caller: Caller, state: BackendState) -> list[Dataset]:
    """The datasets in the shared directory."""
    return await asyncio.to_thread(list_datasets, state.settings.shared_mount_path / "data")


@router.get("/{symbol}", responses=documented(401, 404, 422))
async def datasets_of(
    symbol: SafeName, _caller: Caller, state: BackendState
) -> list[DatasetDetails]:
    """All that is known of a symbol's datasets."""
    root = state.settings.shared_mount_path / "data"
    return await asyncio.to_thread(describe_datasets, root, symbol)


@router.get("/{symbol}/{timeframe}", responses=documented(401, 404, 422))
async def dataset(
    symbol: SafeName, timeframe: SafeName, _caller: Caller, state: BackendState
) -> DatasetDetails:
    """All that is known of a dataset: hash, where it came from, repairs, gaps."""
    root = state.settings.shared_mount_path / "data"
    (found,) = await asyncio.to_thread(describe_datasets, root, symbol, timeframe)
    return found


@router.put(
    "/{symbol}/{timeframe}",
    status_code=201,
    responses={200: {"model": ImportReport}, **documented(401, 403, 413, 422)},
)
async def import_dataset(
    symbol: SafeName,
    timeframe: SafeName,
    options: Annotated[ImportRequest, Query()],
    caller: Operator,
    state: BackendState,
    request: Request,
    response: Response,
) -> ImportReport:
    """Checks a CSV file, plain or gzip, row by row and puts it in place of what was there.

    A dry run writes nothing and answers 200, also about a file that would be refused.
    """
    shared = state.settings.shared_mount_path
    if options.dry_run:
        response.status_code = 200
    async with _body(request, str(shared)) as body:
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
        await state.audit.note(caller, "data.import", f"{symbol}/{timeframe}")
    return report


@router.delete("/{symbol}/{timeframe}", status_code=204, responses=documented(401, 403, 404, 422))
async def remove_dataset(
    symbol: SafeName, timeframe: SafeName, caller: Operator, state: BackendState
) -> None:
    """Removes a dataset; results that were made with it stay."""
    root = state.settings.shared_mount_path / "data"
    await asyncio.to_thread(delete_dataset, root, symbol, timeframe)
    await state.audit.note(caller, "data.remove", f"{symbol}/{timeframe}")


@asynccontextmanager
async def _body(request: Request, directory: str) -> AsyncIterator[IO[bytes]]:
    """What is uploaded; in a nameless file of ``directory`` if it is large."""
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, dir=directory) as body:
        async for chunk in request.stream():
            try:
                # A slow disk must keep no other caller waiting.
                await asyncio.to_thread(body.write, chunk)
            except OSError as exc:
                raise HostNotReady(
                    f"the shared directory {directory} cannot take the upload ({exc.strerror})",
                    hint="Check that it is mounted, has space and belongs to user 10001.",
                ) from exc
        body.seek(0)
        yield body
