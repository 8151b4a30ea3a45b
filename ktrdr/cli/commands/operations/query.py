"""Commands that read operations: list, show, watch, logs, results."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ktrdr.cli.operation_progress import watch_until_final
from ktrdr.cli.operation_tables import format_runtime, raise_if_unsuccessful, write_operations
from ktrdr.cli.render import (
    format_age,
    format_figure,
    json_option,
    write_heading,
    write_json,
    write_note,
    write_pairs,
    write_unchanged,
)
from ktrdr.client.backend import BackendClient, open_backend
from ktrdr.schemas import OperationPage, OperationStatus, OperationType

_PAGE_SIZE = 500


@click.command("list")
@click.option(
    "--status",
    type=click.Choice([status.value for status in OperationStatus]),
    help="List only operations with this status.",
)
@click.option(
    "--type",
    "operation_type",
    type=click.Choice([kind.value for kind in OperationType]),
    help="List only operations of this type.",
)
@click.option(
    "--parts-of",
    "parent_id",
    metavar="OPERATION_ID",
    help="List only the child operations of this sweep.",
)
@click.option(
    "--worker",
    "worker_id",
    metavar="WORKER_ID",
    help="List only operations that ran last on WORKER_ID.",
)
@click.option(
    "--by", "submitted_by", metavar="NAME", help="List only operations that NAME submitted."
)
@click.option(
    "--limit",
    default=20,
    show_default=True,
    type=click.IntRange(1),
    help="Maximum number of operations.",
)
@json_option
def list_operations(limit: int, as_json: bool, **filters: str | None) -> None:
    """List operations, newest first.

    Child operations are listed only with --parts-of.
    """
    with open_backend() as api:
        page = _fetch_pages(api, limit, filters)
    if as_json:
        write_json(page)
        return
    write_operations(page.operations)
    if page.next_cursor:
        write_note(f"only the newest {len(page.operations)} are listed: raise --limit, or filter")


def _fetch_pages(api: BackendClient, limit: int, filters: dict[str, str | None]) -> OperationPage:
    """Fetch the first ``limit`` operations, in as many requests as needed."""
    page = api.list_operations(limit=min(limit, _PAGE_SIZE), **filters)
    operations = list(page.operations)
    while page.next_cursor and len(operations) < limit:
        size = min(limit - len(operations), _PAGE_SIZE)
        page = api.list_operations(limit=size, cursor=page.next_cursor, **filters)
        operations += page.operations
    return OperationPage(operations=operations, next_cursor=page.next_cursor)


@click.command()
@click.argument("operation_id")
@json_option
def show(operation_id: str, as_json: bool) -> None:
    """Show the details of an operation."""
    with open_backend() as api:
        operation = api.get_operation(operation_id)
    if as_json:
        write_json(operation)
        return
    pairs = [
        ("operation", operation.operation_id),
        ("status", operation.status.value),
        ("progress", f"{operation.progress:.0%} {operation.progress_message or ''}".strip()),
        ("worker", operation.worker_id or "none yet"),
        ("attempt", f"{operation.attempt}"),
    ]
    if operation.retry_reason:
        pairs.append(("retry reason", operation.retry_reason))
    if operation.retry_at:
        pairs.append(("next attempt", f"at {operation.retry_at:%H:%M:%S} UTC"))
    if operation.parent_id:
        pairs.append(("child of", operation.parent_id))
    pairs += [
        ("submitted", f"{format_age(operation.created_at)} by {operation.submitted_by}"),
        ("took", format_runtime(operation) or "not finished"),
        ("trace", operation.trace_id or "none"),
    ]
    if operation.error:
        pairs += [("error", operation.error.message), ("hint", operation.error.hint or "")]
    write_pairs(pairs)
    write_heading("Parameters")
    write_pairs([(name, json.dumps(value)) for name, value in operation.parameters.items()])


@click.command()
@click.argument("operation_ids", nargs=-1, required=True, metavar="OPERATION_ID...")
def watch(operation_ids: tuple[str, ...]) -> None:
    """Watch operations until all have ended.

    Exits with code 8 if one of them did not complete. Keeps waiting while the backend restarts.
    """
    with open_backend() as api:
        ended = watch_until_final(api, operation_ids)
    raise_if_unsuccessful(ended)


@click.command()
@click.argument("operation_id")
@click.option("-f", "--follow", is_flag=True, help="Print new lines until the operation ends.")
def logs(operation_id: str, follow: bool) -> None:
    """Print the log of an operation, with all its attempts."""
    with open_backend() as api:
        for chunk in api.stream_log(operation_id, follow=follow):
            write_unchanged(chunk)


@click.command()
@click.argument("operation_id")
@click.option(
    "--save",
    type=click.Path(file_okay=False, path_type=Path),
    help="Download the files into a new directory below this one.",
)
@json_option
def results(operation_id: str, save: Path | None, as_json: bool) -> None:
    """Show or download the results of an operation."""
    with open_backend() as api:
        outcome = api.get_results(operation_id)
        if save is not None:
            directory = save / Path(outcome.directory).name
            for name in outcome.files:
                api.download_result_file(operation_id, name, directory / name)
            write_note(
                f"saved {len(outcome.files)} files; the report is {directory / outcome.report}"
            )
    if as_json:
        write_json(outcome)
    else:
        write_pairs([(name, format_figure(value)) for name, value in outcome.summary.items()])
