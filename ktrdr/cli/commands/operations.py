"""`ktrdr operations`: submit work, watch it, fetch what it found."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import click

from ktrdr.cli.connection import backend
from ktrdr.cli.render import (
    ago,
    duration,
    figure,
    heading,
    json_option,
    say,
    write_json,
    write_pairs,
    write_table,
)
from ktrdr.cli.watching import watch_until_final
from ktrdr.contracts import Operation, OperationRequest, OperationStatus, OperationType
from ktrdr.errors import OperationFailed, UsageError

_TYPES = click.Choice([kind.value for kind in OperationType])
_STATUSES = click.Choice([status.value for status in OperationStatus])


@click.group()
def operations() -> None:
    """Submit, watch and fetch backtests and trainings."""


@operations.command()
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
        _raise_if_unsuccessful([operation])
        _write_results(operation.operation_id)
    else:
        click.echo(operation.operation_id)
    if as_json and wait:
        _raise_if_unsuccessful([operation])


@operations.command("list")
@click.option("--status", type=_STATUSES, help="Only those.")
@click.option("--type", "operation_type", type=_TYPES, help="Only those.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500))
@json_option
def list_operations(
    status: str | None, operation_type: str | None, limit: int, as_json: bool
) -> None:
    """List operations, newest first."""
    with backend() as api:
        page = api.operations(status=status, operation_type=operation_type, limit=limit)
    if as_json:
        write_json(page)
    else:
        write_operations(page.operations)


@operations.command()
@click.argument("operation_id")
@json_option
def show(operation_id: str, as_json: bool) -> None:
    """Show everything about one operation."""
    with backend() as api:
        operation = api.operation(operation_id)
    if as_json:
        write_json(operation)
        return
    pairs = [
        ("operation", operation.operation_id),
        ("status", operation.status.value),
        ("progress", f"{operation.progress:.0%} {operation.progress_message or ''}".strip()),
        ("worker", operation.worker_id or "none yet"),
        ("attempt", f"{operation.attempt}"),
        ("submitted", f"{ago(operation.created_at)} by {operation.submitted_by}"),
        ("took", _took(operation) or "not started"),
        ("trace", operation.trace_id or "none"),
    ]
    if operation.error:
        pairs += [("error", operation.error.message), ("hint", operation.error.hint or "")]
    write_pairs(pairs)
    heading("Parameters")
    write_pairs([(name, json.dumps(value)) for name, value in operation.parameters.items()])


@operations.command()
@click.argument("operation_ids", nargs=-1, required=True, metavar="OPERATION_ID...")
def watch(operation_ids: tuple[str, ...]) -> None:
    """Watch operations until they have all ended.

    The exit code is 8 when one of them did not complete. A backend that restarts meanwhile
    is waited for.
    """
    with backend() as api:
        ended = watch_until_final(api, operation_ids)
    _raise_if_unsuccessful(ended)


@operations.command()
@click.argument("operation_id")
@click.option(
    "--save",
    type=click.Path(file_okay=False, path_type=Path),
    help="Fetch the files into a directory below this one.",
)
@json_option
def results(operation_id: str, save: Path | None, as_json: bool) -> None:
    """Show what a completed operation found, and fetch its files."""
    with backend() as api:
        found = api.results(operation_id)
        if save is not None:
            directory = save / Path(found.directory).name
            for name in found.files:
                api.save_result(operation_id, name, directory / name)
            say(f"saved {len(found.files)} files; the report is {directory / found.report}")
    if as_json:
        write_json(found)
    else:
        write_pairs([(name, figure(value)) for name, value in found.summary.items()])


@operations.command()
@click.argument("operation_id")
@json_option
def cancel(operation_id: str, as_json: bool) -> None:
    """Cancel an operation; what is running stops within seconds."""
    with backend() as api:
        operation = api.cancel(operation_id)
    if as_json:
        write_json(operation)
    else:
        ended = operation.status.is_final
        say(f"{operation_id} is {'cancelled' if ended else 'being cancelled'}")


@operations.command()
@click.argument("operation_id")
@json_option
def resume(operation_id: str, as_json: bool) -> None:
    """Put a failed or cancelled operation back into the queue, to go on from its checkpoint."""
    with backend() as api:
        operation = api.resume(operation_id)
    if as_json:
        write_json(operation)
    else:
        say(f"{operation_id} is queued again")


def write_operations(found: list[Operation]) -> None:
    """A line an operation."""
    write_table(
        ("operation", "symbol", "status", ">done", "submitted", ">took"),
        [
            (
                each.operation_id,
                str(each.parameters.get("symbol", "")),
                each.status.value,
                f"{each.progress:.0%}",
                ago(each.created_at),
                _took(each),
            )
            for each in found
        ],
        empty="There are no operations; submit one with `ktrdr operations submit`.",
    )


def _took(operation: Operation) -> str:
    if operation.started_at is None or operation.finished_at is None:
        return ""
    return duration(operation.finished_at - operation.started_at)


def _write_results(operation_id: str) -> None:
    with backend() as api:
        found = api.results(operation_id)
    write_pairs([(name, figure(value)) for name, value in found.summary.items()])
    say(f"fetch the report with `ktrdr operations results {operation_id} --save .`")


def _raise_if_unsuccessful(ended: list[Operation]) -> None:
    bad = [each for each in ended if each.status is not OperationStatus.COMPLETED]
    if not bad:
        return
    first = bad[0]
    reason = f": {first.error.message}" if first.error else ""
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    raise OperationFailed(
        f"{first.operation_id} is {first.status.value}{reason}{more}",
        hint=(first.error.hint if first.error else None)
        or f"`ktrdr operations resume {first.operation_id}` goes on from its checkpoint.",
    )


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
