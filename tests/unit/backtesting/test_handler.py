"""Complete backtests agree with an independent computation, and resume to the same bytes."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ktrdr.backtesting.handler import run, trading_costs
from ktrdr.errors import InvalidParameters
from ktrdr.schemas import BacktestParameters
from ktrdr.strategies.catalogue import load_strategy
from ktrdr.strategies.document import TradingCosts
from ktrdr.work import Checkpoint, Stopped
from tests.recording_context import RecordingContext
from tests.unit.backtesting.bars import random_bars, write_csv

PARAMETERS = BacktestParameters(
    symbol="TEST",
    strategy_parameters={"fast": (3, 8), "slow": (15, 30)},
    folds=4,
    train_bars=120,
    commission=0.001,
    slippage=0.0005,
    initial_capital=50_000,
)
COST = 0.0015


def context(tmp_path: Path, name: str = "out", **more) -> RecordingContext:
    output = tmp_path / name
    output.mkdir()
    return RecordingContext("op_backtest_x", tmp_path, output, **more)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_csv(random_bars(700), tmp_path / "data" / "TEST" / "1d.csv")
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RecordingContext:
    """Return the context of a backtest that ran to its end, on the same data."""
    shared = tmp_path_factory.mktemp("whole")
    write_csv(random_bars(700), shared / "data" / "TEST" / "1d.csv")
    work = context(shared, "whole")
    run(PARAMETERS, work)
    return work


def mean_of_last(closes, t, window):
    return math.fsum(closes[t - window + 1 : t + 1]) / window if t >= window - 1 else math.nan


def expected_results(closes, folds=4, train=120, capital=50_000.0):
    """Walk-forward moving-average cross, written out bar by bar."""
    n = len(closes)
    edges = [round(train + k * (n - train) / folds) for k in range(folds + 1)]
    averages = {w: [mean_of_last(closes, t, w) for t in range(n)] for w in (3, 8, 15, 30)}

    def held_at(t, fast, slow):
        return 1.0 if t > 0 and averages[fast][t - 1] > averages[slow][t - 1] else 0.0

    targets = []
    chosen = []
    for first, last in pairwise(edges):
        best = (-math.inf, 0, 0)
        for fast in (3, 8):
            for slow in (15, 30):
                results, before = [], 0.0
                for i, t in enumerate(range(first - train, first)):
                    now = held_at(t, fast, slow)
                    gain = before * (closes[t] / closes[t - 1] - 1) if i else 0.0
                    results.append(gain - abs(now - before) * COST)
                    before = now
                average = math.fsum(results) / len(results)
                variance = math.fsum((r - average) ** 2 for r in results) / (len(results) - 1)
                sharpe = average / math.sqrt(variance) * math.sqrt(252) if variance else 0.0
                if sharpe > best[0]:
                    best = (sharpe, fast, slow)
        chosen.append(best[1:])
        targets += [held_at(t, *best[1:]) for t in range(first, last)]
    cash, units, equity, costs, profits, paid, traded = capital, 0.0, [], [], [], 0.0, 0.0
    for t, target in enumerate(targets):
        price, cost = closes[train + t], 0.0
        if target and not units:
            units, paid = cash / (price * (1 + COST)), cash
            cost, cash = units * price * COST, 0.0
            traded += units * price
        elif units and not target:
            cost = units * price * COST
            traded += units * price
            cash = units * price - cost
            profits.append(cash - paid)
            units = 0.0
        equity.append(cash + units * price)
        costs.append(cost)
    return (
        chosen,
        np.array(targets),
        np.array(equity),
        np.array(costs),
        profits,
        bool(units),
        traded,
    )


def test_equity_costs_trades_and_every_statistic_agree_with_an_independent_computation(
    data: Path,
) -> None:
    work = context(data)
    result = run(PARAMETERS, work)
    closes = pd.read_csv(data / "data" / "TEST" / "1d.csv")["close"].tolist()
    chosen, targets, equity, costs, profits, still_held, traded = expected_results(closes)

    written = pd.read_csv(work.output / "equity.csv")
    np.testing.assert_array_equal(written["target"], targets)
    np.testing.assert_allclose(written["equity"], equity, rtol=1e-9)
    np.testing.assert_allclose(written["costs"], costs, rtol=1e-9, atol=1e-9)
    folds = json.loads((work.output / "summary.json").read_text())["folds"]
    assert [tuple(fold["parameters"].values()) for fold in folds] == chosen

    returns = equity / np.concatenate(([50_000.0], equity[:-1])) - 1
    years = len(equity) / 252
    peak, below, longest, deepest = 50_000.0, 0, 0, 0.0
    for value in equity:
        peak = max(peak, value)
        below = below + 1 if value < peak else 0
        longest, deepest = max(longest, below), min(deepest, value / peak - 1)
    downside = math.sqrt(np.mean([min(r, 0) ** 2 for r in returns]))
    expected = {
        "total_return": equity[-1] / 50_000 - 1,
        "cagr": (equity[-1] / 50_000) ** (1 / years) - 1,
        "volatility": returns.std(ddof=1) * math.sqrt(252),
        "sharpe": returns.mean() / returns.std(ddof=1) * math.sqrt(252),
        "sortino": returns.mean() / downside * math.sqrt(252),
        "max_drawdown": deepest,
        "max_drawdown_bars": longest,
        "exposure": targets.mean(),
        "turnover": traded / equity.mean() / years,
        "trades": len(profits) + still_held,
        "hit_rate": sum(p > 0 for p in profits) / len(profits),
        "total_costs": costs.sum(),
        "final_equity": equity[-1],
    }
    for name, value in expected.items():
        assert result.summary[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name
    assert len(profits) > 5
    profit = pd.read_csv(work.output / "trades.csv")["profit"].iloc[: len(profits)]
    np.testing.assert_allclose(profit, profits, rtol=1e-7)


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.mark.parametrize("strategy", ["moving_average_cross", "donchian_breakout"])
def test_a_run_stopped_at_any_fold_resumes_to_the_same_bytes(data: Path, strategy: str) -> None:
    parameters = PARAMETERS
    if strategy != PARAMETERS.strategy:
        parameters = BacktestParameters(symbol="TEST", strategy=strategy, folds=4, train_bars=120)
    whole = context(data, "whole")
    run(parameters, whole)
    assert list(files_of(whole.output)) == [
        "equity.csv",
        "report.html",
        "summary.json",
        "trades.csv",
    ]
    for step in range(1, 5):
        first = context(data, f"first-{step}", stop_after_step=step)
        with pytest.raises(Stopped):
            run(parameters, first)
        reached, state, _ = first.checkpoints[-1]
        checkpoint = Checkpoint(reached, json.loads(json.dumps(state)), None)
        resumed = context(data, f"resumed-{step}", resume_from=checkpoint)
        run(parameters, resumed)
        assert files_of(resumed.output) == files_of(whole.output), step
        assert len(resumed.checkpoints) == 4 - step


def test_the_same_parameters_give_the_same_bytes_for_any_seed(
    data: Path, whole: RecordingContext
) -> None:
    files = []
    for seed in (PARAMETERS.seed, PARAMETERS.seed + 9):
        work = context(data, f"seed-{seed}")
        run(PARAMETERS.model_copy(update={"seed": seed}), work)
        files.append(files_of(work.output))
    assert files[0] == files_of(whole.output)
    # A backtest uses no random numbers; only the parameters contain the seed.
    assert {name for name in files[0] if files[0][name] != files[1][name]} == {"summary.json"}


def test_a_checkpoint_of_other_data_or_of_release_0_1_0_starts_over(
    data: Path, whole: RecordingContext
) -> None:
    old = {"data_hash": "x", "choices": [{"fast": 3, "slow": 15, "sharpe": 1.0}]}
    for name, state in (("old", old), ("other", {**whole.checkpoints[0][1], "made_from": {}})):
        work = context(data, name, resume_from=Checkpoint(1, state, None))
        run(PARAMETERS, work)
        assert files_of(work.output) == files_of(whole.output)
        assert len(work.checkpoints) == 4


def test_the_strategy_buy_and_hold_equals_the_benchmark_exactly(data: Path) -> None:
    parameters = PARAMETERS.model_copy(
        update={"strategy": "buy_and_hold", "strategy_parameters": {}}
    )
    summary = run(parameters, context(data)).summary
    for own, benchmark in (
        ("total_return", "benchmark_return"),
        ("cagr", "benchmark_cagr"),
        ("sharpe", "benchmark_sharpe"),
        ("sortino", "benchmark_sortino"),
        ("max_drawdown", "benchmark_max_drawdown"),
    ):
        assert summary[own] == summary[benchmark]
    assert (summary["exposure"], summary["trades"]) == (1, 1)


def test_costs_of_the_request_replace_those_of_the_strategy(data: Path) -> None:
    strategy = load_strategy("moving_average_cross", data)
    given = BacktestParameters(symbol="TEST", slippage=0.01)
    assert trading_costs(given, strategy) == TradingCosts(0.0005, 0.01)
    default = BacktestParameters(symbol="TEST")
    assert trading_costs(default, strategy) == TradingCosts(0.0005, 0.0002)
    free = given.model_copy(update={"commission": 0.0, "slippage": 0.0})
    assert trading_costs(free, strategy) == TradingCosts(0, 0)


def test_the_summary_identifies_the_strategy_by_name_and_hash(data: Path) -> None:
    summary = run(PARAMETERS, context(data)).summary
    assert summary["strategy"] == "moving_average_cross"
    assert summary["strategy_hash"] == load_strategy("moving_average_cross", data).content_hash


def test_changes_of_the_future_change_no_earlier_decision(
    tmp_path: Path, whole: RecordingContext
) -> None:
    changed = random_bars(700)
    changed.close[500:] *= np.linspace(1, 3, 200)
    changed.high[500:] *= 4
    write_csv(changed, tmp_path / "data" / "TEST" / "1d.csv")
    after = context(tmp_path, "after")
    run(PARAMETERS, after)
    old, new = (pd.read_csv(work.output / "equity.csv") for work in (whole, after))
    # Bar 500 is the first that differs; what is held at its close was decided at the close before.
    np.testing.assert_array_equal(old["target"][: 501 - 120], new["target"][: 501 - 120])
    np.testing.assert_array_equal(old["equity"][: 500 - 120], new["equity"][: 500 - 120])
    assert not np.array_equal(old["target"], new["target"])


def test_costs_reduce_the_final_equity(data: Path) -> None:
    free = PARAMETERS.model_copy(update={"commission": 0.0, "slippage": 0.0})
    one_pair = {"strategy_parameters": {"fast": 3, "slow": 15}}
    with_costs = run(PARAMETERS.model_copy(update=one_pair), context(data, "a"))
    without = run(free.model_copy(update=one_pair), context(data, "b"))
    paid, unpaid = with_costs.summary["final_equity"], without.summary["final_equity"]
    assert isinstance(paid, float)
    assert isinstance(unpaid, float)
    assert paid < unpaid
    assert without.summary["total_costs"] == 0


def test_invalid_requests_are_rejected_with_a_remedy(data: Path) -> None:
    with pytest.raises(InvalidParameters, match="too few") as few:
        run(PARAMETERS.model_copy(update={"train_bars": 699}), context(data, "a"))
    assert "train_bars" in str(few.value.hint)
    with pytest.raises(InvalidParameters, match="no data for TESTT") as unknown:
        run(PARAMETERS.model_copy(update={"symbol": "TESTT"}), context(data, "b"))
    assert "Did you mean TEST?" in str(unknown.value.hint)
    with pytest.raises(InvalidParameters, match="there is no strategy moving_average; did you"):
        run(PARAMETERS.model_copy(update={"strategy": "moving_average"}), context(data, "c"))
    wrong = {"strategy_parameters": {"fast": 900}}
    with pytest.raises(InvalidParameters, match="fast must be a whole number from 1 to 500"):
        run(PARAMETERS.model_copy(update=wrong), context(data, "d"))


def test_the_report_has_no_external_resources(whole: RecordingContext) -> None:
    text = (whole.output / "report.html").read_text()
    assert "<script" not in text
    assert "http" not in text.replace("http-equiv", "")
    assert text.count("<svg") == 3
