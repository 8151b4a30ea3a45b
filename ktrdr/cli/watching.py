"""Follows operations live: a bar each on a terminal, a line a change elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ktrdr.cli.render import console
from ktrdr.client.backend import Backend
from ktrdr.errors import DatabaseUnavailable, HostUnreachable
from ktrdr.schemas import Operation, OperationEvent

# A backend that is being replaced is back within a minute; a watcher has time.
GIVE_UP_AFTER_S: Final = 300.0
PAUSE_S: Final = 1.0
MAX_STREAMS: Final = 16

Show = Callable[[str, OperationEvent], None]


def watch_until_final(api: Backend, operation_ids: Sequence[str]) -> list[Operation]:
    """Shows progress until every operation has ended, and gives them as they ended.

    Raises:
        HostUnreachable: The backend stayed away for longer than five minutes.
    """
    unique = list(dict.fromkeys(operation_ids))
    err = console(err=True)
    if not err.is_terminal:
        return _follow_all(api, unique, _lines())
    with Progress(
        TextColumn("{task.fields[name]}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
        console=err,
    ) as progress:
        tasks = {each: progress.add_task("", total=1.0, name=each, note="") for each in unique}
        return _follow_all(api, unique, _bars(progress, tasks))


def _follow_all(api: Backend, operation_ids: Sequence[str], show: Show) -> list[Operation]:
    with ThreadPoolExecutor(max_workers=MAX_STREAMS) as pool:
        return list(pool.map(lambda each: _follow(api, each, show), operation_ids))


def _follow(api: Backend, operation_id: str, show: Show) -> Operation:
    after, lost_at = 0, None
    while True:
        try:
            for event in api.events(operation_id, after=after):
                after, lost_at = max(after, event.event_id), None
                show(operation_id, event)
            operation = api.operation(operation_id)
        except (HostUnreachable, DatabaseUnavailable):
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > GIVE_UP_AFTER_S:
                raise
            time.sleep(PAUSE_S)
            continue
        if operation.status.is_final:
            return operation


def _bars(progress: Progress, tasks: dict[str, TaskID]) -> Show:
    def show(operation_id: str, event: OperationEvent) -> None:
        done = 1.0 if event.status == "completed" else event.progress
        note = event.message or event.status.value
        progress.update(tasks[operation_id], completed=done, note=note)

    return show


def _lines() -> Show:
    lock = threading.Lock()

    def show(operation_id: str, event: OperationEvent) -> None:
        message = f" {event.message}" if event.message else ""
        with lock:
            console(err=True).print(
                f"{operation_id} {event.status.value} {event.progress:4.0%} {event.kind}{message}",
                markup=False,
            )

    return show
