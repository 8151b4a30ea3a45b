"""Benchmark of two real workers compared with one, on equal backtests and on a sweep."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from benchmarks.runtime.ground import SMALLEST_BACKTEST, Ground, bring_bars
from benchmarks.samples import SPREAD_TITLES, Goal, Outcome, spread
from ktrdr.client.backend import BackendClient
from ktrdr.schemas import OperationRequest, OperationStatus, OperationType
from tests.integration.processes import Process, wait_for

BACKTEST = OperationRequest(
    operation_type=OperationType.BACKTEST, parameters=dict(SMALLEST_BACKTEST)
)
PATIENCE_S = 600.0
# Minimum share of the ideal speed-up by two; backend and database use the same processors.
LEAST_EFFICIENCY = 0.7


def measure_backtests(ground: Ground, backtests: int, rounds: int) -> Outcome:
    """Measure equal minimal backtests, submitted together."""
    seconds = _on_one_and_two(ground, rounds, partial(_run, [BACKTEST] * backtests))
    return _outcome(
        "real backtests",
        seconds,
        backtests,
        f"{backtests} equal backtests per round, of one fold each, each in its own process",
    )


def measure_sweep(ground: Ground, parts: int, rounds: int) -> Outcome:
    """Measure a sweep from its submission to its report."""
    seconds = _on_one_and_two(ground, rounds, partial(_run, [sweep_request(parts)]))
    return _outcome(
        "children of a sweep",
        seconds,
        parts,
        f"a sweep of {parts} minimal backtests per round; the time includes the report, which one"
        " worker writes while the other waits",
    )


def sweep_request(parts: int) -> OperationRequest:
    """Return a sweep with an even number of children, one for each combination of two averages."""
    grid = {"fast": [5, 8], "slow": list(range(20, 20 + parts // 2))}
    return OperationRequest(
        operation_type=OperationType.SWEEP,
        parameters={"symbol": "SP500", "folds": 1, "train_bars": 400, "strategy_parameters": grid},
    )


def _outcome(
    title: str, seconds: Mapping[int, Sequence[float]], backtests: int, note: str
) -> Outcome:
    efficiency = statistics.median(seconds[1]) / statistics.median(seconds[2]) / 2
    outcome = Outcome(f"{title} per minute", ("", *SPREAD_TITLES))
    outcome.rows = [
        [f"{count} worker(s)", *spread([60 * backtests / each for each in taken], ".1f")]
        for count, taken in seconds.items()
    ]
    outcome.notes = [
        note,
        f"two workers do {2 * efficiency:.2f} times the work of one, {efficiency:.0%} of the ideal;"
        " backend and database use the same processors",
    ]
    outcome.goals = [
        Goal(
            f"{title}, from 1 to 2 workers",
            LEAST_EFFICIENCY,
            efficiency,
            "of ideal",
            at_least=True,
        )
    ]
    return outcome


def _on_one_and_two(
    ground: Ground, rounds: int, work: Callable[[BackendClient], None]
) -> dict[int, list[float]]:
    """Return the durations in seconds, by number of workers."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with ground.site() as place:
        backend = place.backend()
        client = place.client(backend)
        bring_bars(client)
        workers: list[Process] = []
        for number in range(rounds):
            # In the order 1, 2, 2, 1, so that no worker is started or stopped during a measurement.
            for count in sorted(seconds, reverse=bool(number % 2)):
                while len(workers) > count:
                    workers.pop().stop()
                while len(workers) < count:
                    workers.append(place.worker("backtest", backend))
                wait_for("registration", partial(_are_registered, client, count))
                _run([BACKTEST] * count, client)
                began = time.perf_counter()
                work(client)
                seconds[count].append(time.perf_counter() - began)
    return seconds


def _are_registered(client: BackendClient, count: int) -> bool:
    return len(client.list_workers()) == count


def _run(requests: Sequence[OperationRequest], client: BackendClient) -> None:
    """Submit operations, and wait until all have completed."""
    names = [
        client.submit(each, idempotency_key=f"{time.perf_counter_ns()}").operation_id
        for each in requests
    ]
    deadline = time.monotonic() + PATIENCE_S
    for name in names:
        # Polled rarely, so that the responses take no processor time from the operations.
        while not client.get_operation(name).status.is_final and time.monotonic() < deadline:
            time.sleep(0.1)
        ended = client.get_operation(name)
        assert ended.status is OperationStatus.COMPLETED, ended
