"""Strategies: what there is, and bringing in one's own."""

from __future__ import annotations

import asyncio
from pathlib import Path as FilePath
from typing import Annotated, Final

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import PlainTextResponse

from ktrdr.api.auth import Caller, Operator
from ktrdr.api.errors import documented
from ktrdr.api.state import BackendState, State
from ktrdr.errors import UsageError
from ktrdr.schemas import NAME_PATTERN, StrategyInfo
from ktrdr.strategies import catalogue

router = APIRouter(prefix="/strategies", tags=["strategies"])

YAML: Final = "application/yaml"
StrategyName = Annotated[str, Path(pattern=NAME_PATTERN)]


def directory(state: State) -> FilePath:
    """Where the users' own strategies are."""
    return state.settings.shared_mount_path / "strategies"


@router.get("", responses=documented(401))
async def strategies(_caller: Caller, state: BackendState) -> list[StrategyInfo]:
    """The strategies that come with KTRDR, then one's own; a broken file says what is wrong."""
    return await asyncio.to_thread(catalogue.list_strategies, directory(state))


@router.get(
    "/{name}",
    response_class=PlainTextResponse,
    responses={200: {"content": {YAML: {}}}, **documented(401, 404, 422)},
)
async def strategy(name: StrategyName, _caller: Caller, state: BackendState) -> PlainTextResponse:
    """A strategy's document, as it was written."""
    text = await asyncio.to_thread(catalogue.read_document, name, directory(state))
    return PlainTextResponse(text, media_type=YAML, headers={"X-Content-Type-Options": "nosniff"})


@router.put("/{name}", status_code=201, responses=documented(401, 403, 409, 413, 422))
async def put_strategy(
    name: StrategyName, caller: Operator, state: BackendState, request: Request
) -> StrategyInfo:
    """Checks a document and puts it in place of what was there; runs under way keep the old one."""
    try:
        text = (await request.body()).decode("utf-8")
    except UnicodeDecodeError as exc:
        raise UsageError("the document is not UTF-8 text", hint="Save it as UTF-8.") from exc
    found = await asyncio.to_thread(catalogue.save_strategy, name, text, directory(state))
    await state.audit.note(caller, "strategy.put", name, {"content_hash": found.content_hash})
    return catalogue.describe_strategy(found)


@router.delete("/{name}", status_code=204, responses=documented(401, 403, 404, 409, 422))
async def delete_strategy(name: StrategyName, caller: Operator, state: BackendState) -> Response:
    """Removes a strategy of one's own."""
    await asyncio.to_thread(catalogue.delete_strategy, name, directory(state))
    await state.audit.note(caller, "strategy.delete", name)
    return Response(status_code=204)
