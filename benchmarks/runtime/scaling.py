"""What a second worker brings, to equal backtests and to a sweep, on real workers."""

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
# What two workers do of twice the work of one; backend and database take their share.
LEAST_EFFICIENCY = 0.7


def of_backtests(ground: Ground, backtests: int, rounds: int) -> Outcome:
    """Equal smallest backtests, submitted together."""
    seconds = _on_one_and_two(ground, rounds, partial(_run, [BACKTEST] * backtests))
    return _outcome(
        "real backtests",
        seconds,
        backtests,
        f"{backtests} equal backtests a round, of one fold each, a process of its own for each",
    )


def of_a_sweep(ground: Ground, parts: int, rounds: int) -> Outcome:
    """One sweep from its submission to its report."""
    seconds = _on_one_and_two(ground, rounds, partial(_run, [a_sweep(parts)]))
    return _outcome(
        "parts of a sweep",
        seconds,
        parts,
        f"a sweep of {parts} parts a round, each as large as the smallest backtest; the report,"
        " which one worker makes while the other waits, is a part of the time",
    )


def a_sweep(parts: int) -> OperationRequest:
    """A sweep of an even number of parts, one for each combination of two averages."""
    grid = {"fast": [5, 8], "slow": list(range(20, 20 + parts // 2))}
    return OperationRequest(
        operation_type=OperationType.SWEEP,
        parameters={"symbol": "SP500", "folds": 1, "train_bars": 400, "strategy_parameters": grid},
    )


def _outcome(
    title: str, seconds: Mapping[int, Sequence[float]], backtests: int, note: str
) -> Outcome:
    efficiency = statistics.median(seconds[1]) / statistics.median(seconds[2]) / 2
    outcome = Outcome(f"{title} a minute", ("", *SPREAD_TITLES))
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
    """Seconds that the work took each time, by the number of workers."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with ground.site() as place:
        backend = place.backend()
        client = place.client(backend)
        bring_bars(client)
        workers: list[Process] = []
        for number in range(rounds):
            # 1, 2, then 2, 1: no worker is started or stopped within a measurement.
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
    """Submits work and waits until all of it has completed."""
    names = [
        client.submit(each, idempotency_key=f"{time.perf_counter_ns()}").operation_id
        for each in requests
    ]
    deadline = time.monotonic() + PATIENCE_S
    for name in names:
        # Asked seldom, so that the answers take no processor from the work.
        while not client.get_operation(name).status.is_final and time.monotonic() < deadline:
            time.sleep(0.1)
        ended = client.get_operation(name)
        assert ended.status is OperationStatus.COMPLETED, ended
