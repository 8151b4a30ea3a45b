"""Live progress of operations: a bar for each on a terminal, a line for each event elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ktrdr.cli.render import console, write_note
from ktrdr.client.backend import BackendClient
from ktrdr.errors import DatabaseUnavailable, HostUnreachable, Interrupted
from ktrdr.schemas import Operation, OperationEvent

# A backend that is being replaced is back within a minute.
MAX_OUTAGE_S: Final = 300.0
RETRY_PAUSE_S: Final = 1.0
MAX_STREAMS: Final = 16
# Operations that a hint names.
_NAMED: Final = 5

ShowEvent = Callable[[str, OperationEvent], None]


def watch_until_final(api: BackendClient, operation_ids: Sequence[str]) -> list[Operation]:
    """Show progress until every operation has ended, and return the operations.

    Raises:
        HostUnreachable: The backend was away for longer than `MAX_OUTAGE_S`.
    """
    unique_ids = list(dict.fromkeys(operation_ids))
    err = console(err=True)
    if not err.is_terminal:
        return _follow_all(api, unique_ids, _line_printer())
    with Progress(
        TextColumn("{task.fields[name]}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
        console=err,
    ) as progress:
        tasks = {name: progress.add_task("", total=1.0, name=name, note="") for name in unique_ids}
        return _follow_all(api, unique_ids, _bar_updater(progress, tasks))


def _follow_all(
    api: BackendClient, operation_ids: Sequence[str], show_event: ShowEvent
) -> list[Operation]:
    ended: dict[str, Future[Operation]] = {name: Future() for name in operation_ids}
    names = iter(operation_ids)

    def follow() -> None:
        for name in names:
            try:
                ended[name].set_result(_follow(api, name, show_event))
            except BaseException as error:  # noqa: BLE001  # `result()` raises it
                ended[name].set_exception(error)

    try:
        # Ctrl-C does not wait for daemon threads, whose streams may be silent for hours.
        for _ in range(min(MAX_STREAMS, len(ended))):
            threading.Thread(target=follow, daemon=True).start()
        return [future.result() for future in ended.values()]
    except KeyboardInterrupt as exc:
        left = [name for name, future in ended.items() if not future.done()]
        goes = "it goes" if len(left) == 1 else f"{len(left)} operations go"
        raise Interrupted(
            f"the wait was interrupted, and {goes} on",
            hint=f"Watch with `ktrdr operations watch {' '.join(left[:_NAMED])}`, or stop with "
            f"`ktrdr operations cancel {''.join(left[:1])}`.",
        ) from exc


def _follow(api: BackendClient, operation_id: str, show_event: ShowEvent) -> Operation:
    last_event, lost_at = 0, None
    while True:
        try:
            if lost_at is not None:
                # A stream may send no event for hours, so only this shows that the outage is over.
                api.get_operation(operation_id)
                lost_at = None
            for event in api.stream_events(operation_id, after=last_event):
                last_event = max(last_event, event.event_id)
                show_event(operation_id, event)
            operation = api.get_operation(operation_id)
        except (HostUnreachable, DatabaseUnavailable):
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > MAX_OUTAGE_S:
                raise
            time.sleep(RETRY_PAUSE_S)
            continue
        if operation.status.is_final:
            return operation


def _bar_updater(progress: Progress, tasks: dict[str, TaskID]) -> ShowEvent:
    def show_event(operation_id: str, event: OperationEvent) -> None:
        done = 1.0 if event.status == "completed" else event.progress
        note = event.message or event.status.value
        progress.update(tasks[operation_id], completed=done, note=note)

    return show_event


def _line_printer() -> ShowEvent:
    lock = threading.Lock()

    def show_event(operation_id: str, event: OperationEvent) -> None:
        message = f" {event.message}" if event.message else ""
        with lock:
            write_note(
                f"{operation_id} {event.status.value} {event.progress:4.0%} {event.kind}{message}"
            )

    return show_event
