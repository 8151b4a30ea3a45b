"""Commands that submit operations: submit, batch."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
from pydantic import ValidationError

from ktrdr.cli.operation_progress import watch_until_final
from ktrdr.cli.operation_tables import raise_if_unsuccessful, write_results
from ktrdr.cli.render import json_option, write_json, write_line, write_note
from ktrdr.client.backend import open_backend
from ktrdr.errors import UsageError
from ktrdr.schemas import MAX_BATCH, Operation, OperationRequest, OperationType

_SUBMIT_EXAMPLES: Final = """\b
Examples:
  ktrdr operations submit backtest -p symbol=SP500 -p folds=8 --wait
  ktrdr operations submit training -p symbol=SP500 -p hidden_units=[64,32]
"""
_BATCH_EXAMPLE: Final = """\b
Example of a line:
  {"operation_type": "backtest", "parameters": {"symbol": "SP500", "folds": 8}}
"""
_idempotency_option = click.option(
    "--idempotency-key",
    metavar="KEY",
    help="A second submission with the same key changes nothing.  [default: random]",
)


@click.command(epilog=_SUBMIT_EXAMPLES)
@click.argument("operation_type", type=click.Choice([kind.value for kind in OperationType]))
@click.option(
    "-p",
    "--parameter",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a parameter; VALUE may be JSON. May be repeated.",
)
@click.option(
    "--parameters-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read parameters from a JSON file; -p overrides them.",
)
@_idempotency_option
@click.option(
    "--wait", is_flag=True, help="Wait until the operation has ended, and show its results."
)
@json_option
def submit(
    operation_type: str,
    assignments: tuple[str, ...],
    parameters_file: Path | None,
    idempotency_key: str | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Submit an operation and print its id."""
    parameters = _read_parameters(parameters_file) | dict(map(_parse_assignment, assignments))
    request = OperationRequest(operation_type=OperationType(operation_type), parameters=parameters)
    with open_backend() as api:
        # With a key, the client can repeat a submit whose response was lost.
        operation = api.submit(request, idempotency_key=idempotency_key or uuid.uuid4().hex)
        if wait:
            write_note(f"submitted {operation.operation_id}")
            (operation,) = watch_until_final(api, [operation.operation_id])
    if as_json:
        write_json(operation)
    elif not wait:
        write_line(operation.operation_id)
    if wait:
        raise_if_unsuccessful([operation])
        if not as_json:
            write_results(operation.operation_id)


@click.command(epilog=_BATCH_EXAMPLE)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_idempotency_option
@click.option("--wait", is_flag=True, help="Wait until all operations have ended.")
@json_option
def batch(file: Path, idempotency_key: str | None, wait: bool, as_json: bool) -> None:
    """Submit a file of operations, one JSON object per line.

    The backend accepts 1,000 operations at a time, either all of them or none.
    """
    requests = list(_read_requests(file))
    key = idempotency_key or uuid.uuid4().hex
    with open_backend() as api:
        operations: list[Operation] = []
        for start in range(0, len(requests), MAX_BATCH):
            chunk = requests[start : start + MAX_BATCH]
            operations += api.submit_batch(chunk, idempotency_key=f"{key}:{start}")
        if wait:
            write_note(f"submitted {len(operations)} operations")
            ids = [operation.operation_id for operation in operations]
            operations = watch_until_final(api, ids)
    if as_json:
        write_json(operations)
    elif not wait:
        write_line("\n".join(operation.operation_id for operation in operations))
    if wait:
        raise_if_unsuccessful(operations)


def _read_requests(file: Path) -> Iterator[OperationRequest]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(
            f"{file} cannot be read ({type(exc).__name__})", hint="Save it as UTF-8 text."
        ) from exc
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield OperationRequest.model_validate_json(line)
        except ValidationError as exc:
            fault = exc.errors(include_url=False, include_input=False)[0]
            field = ".".join(map(str, fault["loc"]))
            raise UsageError(
                f"{file}:{number}: {field + ': ' if field else ''}{fault['msg']}",
                hint='Write lines such as {"operation_type": "backtest", "parameters": {…}}.',
            ) from exc


def _read_parameters(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    hint = 'Write an object such as {"symbol": "SP500"}.'
    try:
        parameters = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise UsageError(
            f"{file} cannot be read as JSON ({type(exc).__name__})", hint=hint
        ) from exc
    if not isinstance(parameters, dict):
        raise UsageError(f"{file} does not contain a JSON object", hint=hint)
    return parameters


def _parse_assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(
            f"{text!r} is not NAME=VALUE", hint="Use the form NAME=VALUE, such as -p symbol=SP500."
        )
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
