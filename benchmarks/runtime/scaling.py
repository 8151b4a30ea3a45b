"""Speed-up by a second worker, for equal backtests and for a sweep."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from benchmarks.runtime.environment import SMALLEST_BACKTEST, BenchmarkEnvironment, import_bars
from benchmarks.samples import SPREAD_TITLES, Goal, Outcome, spread
from ktrdr.client.backend import BackendClient
from ktrdr.schemas import OperationRequest, OperationStatus, OperationType
from tests.integration.processes import ServerProcess, wait_for

BACKTEST = OperationRequest(
    operation_type=OperationType.BACKTEST, parameters=dict(SMALLEST_BACKTEST)
)
TIMEOUT_S = 600.0
# Share of the ideal speed-up; backend and database use the same processors.
MIN_EFFICIENCY = 0.7


def scale_backtests(env: BenchmarkEnvironment, backtests: int, rounds: int) -> Outcome:
    """Measure equal, smallest backtests, submitted together."""
    seconds = _measure_speed_up(env, rounds, partial(_run, [BACKTEST] * backtests))
    return _outcome(
        "real backtests",
        seconds,
        backtests,
        f"{backtests} equal backtests a round, with one fold and a process each",
    )


def scale_sweep(env: BenchmarkEnvironment, backtests: int, rounds: int) -> Outcome:
    """Measure one sweep from its submission to its report."""
    seconds = _measure_speed_up(env, rounds, partial(_run, [make_sweep(backtests)]))
    return _outcome(
        "backtests of a sweep",
        seconds,
        backtests,
        f"a sweep of {backtests} backtests a round, each as small as possible; the time includes"
        " the report, which one worker writes while the other waits",
    )


def make_sweep(backtests: int) -> OperationRequest:
    """Return a sweep of an even number of backtests, one per combination of two averages."""
    grid = {"fast": [5, 8], "slow": list(range(20, 20 + backtests // 2))}
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
        [
            f"{count} worker(s)",
            *spread([60 * backtests / duration for duration in durations], ".1f"),
        ]
        for count, durations in seconds.items()
    ]
    outcome.notes = [
        note,
        f"two workers are {2 * efficiency:.2f} times as fast as one, {efficiency:.0%} of the ideal;"
        " backend and database use the same processors",
    ]
    outcome.goals = [
        Goal(
            f"{title}, from 1 to 2 workers",
            MIN_EFFICIENCY,
            efficiency,
            "of ideal",
            at_least=True,
        )
    ]
    return outcome


def _measure_speed_up(
    env: BenchmarkEnvironment, rounds: int, work: Callable[[BackendClient], None]
) -> dict[int, list[float]]:
    """Return the seconds of every round by the number of workers."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with env.open_runtime() as runtime:
        backend = runtime.backend()
        client = runtime.client(backend)
        import_bars(client)
        workers: list[ServerProcess] = []
        for number in range(rounds):
            # Order 1, 2, then 2, 1: no worker starts or stops during a measurement.
            for count in sorted(seconds, reverse=bool(number % 2)):
                while len(workers) > count:
                    workers.pop().stop()
                while len(workers) < count:
                    workers.append(runtime.worker("backtest", backend))
                wait_for("registration", partial(_are_registered, client, count))
                _run([BACKTEST] * count, client)
                start = time.perf_counter()
                work(client)
                seconds[count].append(time.perf_counter() - start)
    return seconds


def _are_registered(client: BackendClient, count: int) -> bool:
    return len(client.list_workers()) == count


def _run(requests: Sequence[OperationRequest], client: BackendClient) -> None:
    """Submit operations and wait until all have completed."""
    operation_ids = [
        client.submit(request, idempotency_key=f"{time.perf_counter_ns()}").operation_id
        for request in requests
    ]
    deadline = time.monotonic() + TIMEOUT_S
    for operation_id in operation_ids:
        # Polled rarely, so that the responses take no processor time from the workers.
        while (
            not client.get_operation(operation_id).status.is_final and time.monotonic() < deadline
        ):
            time.sleep(0.1)
        ended = client.get_operation(operation_id)
        assert ended.status is OperationStatus.COMPLETED, ended
