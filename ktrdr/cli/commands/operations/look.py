"""Looking: what there is, how far it is, what it found."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from ktrdr.cli.commands.operations.tables import (
    raise_if_unsuccessful,
    took,
    write_operations,
)
from ktrdr.cli.connection import backend
from ktrdr.cli.render import ago, figure, heading, json_option, say, write_json, write_pairs
from ktrdr.cli.watching import watch_until_final
from ktrdr.client.backend import Backend
from ktrdr.schemas import Operation, OperationPage, OperationStatus, OperationType

_TYPES = click.Choice([kind.value for kind in OperationType])
_STATUSES = click.Choice([status.value for status in OperationStatus])
_PAGE = 500


@click.command("list")
@click.option("--status", type=_STATUSES, help="Only those.")
@click.option("--type", "operation_type", type=_TYPES, help="Only those.")
@click.option("--parts-of", "parent_id", metavar="OPERATION_ID", help="Only the parts of this one.")
@click.option("--worker", "worker_id", metavar="WORKER_ID", help="Only what ran there last.")
@click.option("--by", "submitted_by", metavar="NAME", help="Only what they have submitted.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1))
@json_option
def list_operations(limit: int, as_json: bool, **filters: str | None) -> None:
    """List operations, newest first; parts of others only when asked for."""
    with backend() as api:
        page = _first(api, limit, filters)
    if as_json:
        write_json(page)
        return
    write_operations(page.operations)
    if page.next_cursor:
        say(f"there are more than these {len(page.operations)}: raise --limit, or filter")


def _first(api: Backend, limit: int, filters: dict[str, str | None]) -> OperationPage:
    """The first ``limit`` operations, over as many pages as that takes."""
    page = api.operations(limit=min(limit, _PAGE), **filters)
    found = list(page.operations)
    while page.next_cursor and len(found) < limit:
        rest = min(limit - len(found), _PAGE)
        page = api.operations(limit=rest, cursor=page.next_cursor, **filters)
        found += page.operations
    return OperationPage(operations=found, next_cursor=page.next_cursor)


@click.command()
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
        *_waiting(operation),
        ("submitted", f"{ago(operation.created_at)} by {operation.submitted_by}"),
        ("took", took(operation) or "not started"),
        ("trace", operation.trace_id or "none"),
    ]
    if operation.error:
        pairs += [("error", operation.error.message), ("hint", operation.error.hint or "")]
    write_pairs(pairs)
    heading("Parameters")
    write_pairs([(name, json.dumps(value)) for name, value in operation.parameters.items()])


def _waiting(operation: Operation) -> list[tuple[str, str]]:
    found = []
    if operation.retry_reason:
        found.append(("set back", operation.retry_reason))
    if operation.retry_at:
        found.append(("tried again", f"at {operation.retry_at:%H:%M:%S} UTC"))
    if operation.parent_id:
        found.append(("part of", operation.parent_id))
    return found


@click.command()
@click.argument("operation_ids", nargs=-1, required=True, metavar="OPERATION_ID...")
def watch(operation_ids: tuple[str, ...]) -> None:
    """Watch operations until they have all ended.

    The exit code is 8 when one of them did not complete. A backend that restarts meanwhile
    is waited for.
    """
    with backend() as api:
        ended = watch_until_final(api, operation_ids)
    raise_if_unsuccessful(ended)


@click.command()
@click.argument("operation_id")
@click.option("-f", "--follow", is_flag=True, help="Go on until it ends.")
def logs(operation_id: str, follow: bool) -> None:
    """Show what an operation has written to its log, over all its attempts."""
    with backend() as api:
        for part in api.log(operation_id, follow=follow):
            sys.stdout.buffer.write(part)
            sys.stdout.buffer.flush()


@click.command()
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
