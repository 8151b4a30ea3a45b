"""Submitting: one operation, or a file of them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from ktrdr.cli.commands.operations.tables import raise_if_unsuccessful, write_results
from ktrdr.cli.connection import backend
from ktrdr.cli.render import json_option, say, write_json
from ktrdr.cli.watching import watch_until_final
from ktrdr.errors import UsageError
from ktrdr.schemas import MAX_BATCH, Operation, OperationRequest, OperationType

_TYPES = click.Choice([kind.value for kind in OperationType])


@click.command()
@click.argument("operation_type", type=_TYPES)
@click.option(
    "-p", "--parameter", "given", multiple=True, metavar="NAME=VALUE", help="One parameter."
)
@click.option(
    "--parameters-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A JSON file of parameters; -p overrides it.",
)
@click.option("--idempotency-key", help="Submitting twice with the same key is harmless.")
@click.option("--wait", is_flag=True, help="Watch it to its end and show what it found.")
@json_option
def submit(
    operation_type: str,
    given: tuple[str, ...],
    parameters_file: Path | None,
    idempotency_key: str | None,
    wait: bool,
    as_json: bool,
) -> None:
    r"""Submit an operation.

    \b
    ktrdr operations submit backtest -p symbol=SP500 -p folds=8 --wait
    ktrdr operations submit training -p symbol=SP500 -p epochs=50 -p hidden_units=[64,32]
    """
    parameters = _file_parameters(parameters_file) | dict(map(_pair, given))
    request = OperationRequest(operation_type=OperationType(operation_type), parameters=parameters)
    with backend() as api:
        # With a key, a submit whose answer was lost can be repeated as it stands.
        operation = api.submit(request, idempotency_key=idempotency_key or uuid.uuid4().hex)
        if wait:
            say(f"submitted {operation.operation_id}")
            (operation,) = watch_until_final(api, [operation.operation_id])
    if as_json:
        write_json(operation)
    elif wait:
        raise_if_unsuccessful([operation])
        write_results(operation.operation_id)
    else:
        click.echo(operation.operation_id)
    if as_json and wait:
        raise_if_unsuccessful([operation])


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--idempotency-key", help="Submitting twice with the same key is harmless.")
@click.option("--wait", is_flag=True, help="Watch them to their end.")
@json_option
def batch(file: Path, idempotency_key: str | None, wait: bool, as_json: bool) -> None:
    r"""Submit a file of operations, one JSON object a line.

    \b
    {"operation_type": "backtest", "parameters": {"symbol": "SP500", "folds": 8}}

    They are accepted a thousand at a time, each thousand as a whole or not at all.
    """
    requests = list(_requests(file))
    key = idempotency_key or uuid.uuid4().hex
    with backend() as api:
        found: list[Operation] = []
        for start in range(0, len(requests), MAX_BATCH):
            part = requests[start : start + MAX_BATCH]
            found += api.submit_all(part, idempotency_key=f"{key}:{start}")
        if wait:
            say(f"submitted {len(found)} operations")
            found = watch_until_final(api, [each.operation_id for each in found])
    if as_json:
        write_json(found)
    elif not wait:
        click.echo("\n".join(each.operation_id for each in found))
    if wait:
        raise_if_unsuccessful(found)


def _requests(file: Path) -> Iterator[OperationRequest]:
    for number, line in enumerate(_lines(file), start=1):
        if not line.strip():
            continue
        try:
            yield OperationRequest.model_validate_json(line)
        except ValidationError as exc:
            fault = exc.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, fault["loc"]))
            raise UsageError(
                f"{file}:{number}: {where + ': ' if where else ''}{fault['msg']}",
                hint='Write lines such as {"operation_type": "backtest", "parameters": {…}}.',
            ) from exc


def _lines(file: Path) -> Sequence[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(
            f"{file} cannot be read ({type(exc).__name__})", hint="Write it in UTF-8."
        ) from exc


def _file_parameters(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise UsageError(
            f"{path} cannot be read as JSON ({type(exc).__name__})",
            hint='Write an object such as {"symbol": "SP500"}.',
        ) from exc
    if not isinstance(value, dict):
        raise UsageError(
            f"{path} holds no object", hint='Write an object such as {"symbol": "SP500"}.'
        )
    return value


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"{text!r} is not NAME=VALUE", hint="Write -p symbol=SP500.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
