"""Routes of strategies."""

from __future__ import annotations

import asyncio
from pathlib import Path as FilePath
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import PlainTextResponse

from ktrdr.api.auth import Caller, OperatorCaller, require_shared_directory
from ktrdr.api.errors import describe_errors
from ktrdr.api.state import BackendState, StateDep
from ktrdr.errors import UsageError
from ktrdr.schemas import NAME_PATTERN, StrategyInfo
from ktrdr.strategies import catalogue

router = APIRouter(
    prefix="/strategies", tags=["strategies"], dependencies=[Depends(require_shared_directory)]
)

YAML_TYPE: Final = "application/yaml"
StrategyName = Annotated[str, Path(pattern=NAME_PATTERN)]


def strategies_directory(state: BackendState) -> FilePath:
    """Return the directory of the users' own strategies."""
    return state.settings.shared_mount_path / "strategies"


@router.get("", responses=describe_errors(401))
async def list_strategies(_caller: Caller, state: StateDep) -> list[StrategyInfo]:
    """List the built-in strategies, then the users' own; invalid files come with their fault."""
    return await asyncio.to_thread(catalogue.list_strategies, strategies_directory(state))


@router.get(
    "/{name}",
    response_class=PlainTextResponse,
    responses={200: {"content": {YAML_TYPE: {}}}, **describe_errors(401, 404, 422)},
)
async def get_strategy(name: StrategyName, _caller: Caller, state: StateDep) -> PlainTextResponse:
    """Return the document of a strategy, as it was written."""
    text = await asyncio.to_thread(catalogue.read_document, name, strategies_directory(state))
    return PlainTextResponse(
        text, media_type=YAML_TYPE, headers={"X-Content-Type-Options": "nosniff"}
    )


@router.put("/{name}", status_code=201, responses=describe_errors(401, 403, 409, 413, 422))
async def put_strategy(
    name: StrategyName, caller: OperatorCaller, state: StateDep, request: Request
) -> StrategyInfo:
    """Check a document and store it; running operations keep the previous one."""
    try:
        text = (await request.body()).decode("utf-8")
    except UnicodeDecodeError as exc:
        raise UsageError("the document is not UTF-8 text", hint="Save it as UTF-8.") from exc
    strategy = await asyncio.to_thread(
        catalogue.save_strategy, name, text, strategies_directory(state)
    )
    await state.audit.record(caller, "strategy.put", name, {"content_hash": strategy.content_hash})
    return catalogue.describe_strategy(strategy)


@router.delete("/{name}", status_code=204, responses=describe_errors(401, 403, 404, 409, 422))
async def delete_strategy(name: StrategyName, caller: OperatorCaller, state: StateDep) -> Response:
    """Delete one of the users' own strategies."""
    await asyncio.to_thread(catalogue.delete_strategy, name, strategies_directory(state))
    await state.audit.record(caller, "strategy.delete", name)
    return Response(status_code=204)
