"""Statistics agree with examples computed by hand, and are None where undefined."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr.backtesting.engine import Simulation, Trade, simulate_portfolio
from ktrdr.backtesting.statistics import (
    bar_returns,
    cagr,
    compute_statistics,
    drawdowns,
    hit_rate,
    max_drawdown,
    sharpe_ratio,
    sortino_ratio,
    volatility,
)
from tests.thoroughness import examples
from tests.unit.backtesting.bars import random_bars


def trade(profit: float, *, closed: bool = True) -> Trade:
    return Trade(0, 1, 100.0, 100.0 + profit, 1.0, profit, closed)


def test_the_first_return_is_measured_against_the_capital() -> None:
    np.testing.assert_allclose(bar_returns(np.array([90.0, 99]), 100), [-0.1, 0.1], rtol=1e-12)


def test_doubling_in_two_years_is_41_percent_a_year() -> None:
    assert cagr(100, 200, 2) == pytest.approx(math.sqrt(2) - 1, rel=1e-12)


def test_growth_without_time_or_money_has_no_rate() -> None:
    assert cagr(100, 200, 0) is None
    assert cagr(100, 0, 1) is None


def test_volatility_and_ratios_of_a_small_example() -> None:
    returns = np.array([0.03, -0.01, 0.01, 0.01])
    deviation = math.sqrt((4 + 4) / 3) / 100  # around a mean of 0.01
    assert volatility(returns, 4) == pytest.approx(deviation * 2, rel=1e-12)
    assert sharpe_ratio(returns, 4) == pytest.approx(0.01 / deviation * 2, rel=1e-12)
    assert sortino_ratio(returns, 4) == pytest.approx(0.01 / 0.005 * 2, rel=1e-12)


def test_ratios_without_risk_are_undefined_and_not_infinite() -> None:
    assert sharpe_ratio(np.zeros(5), 252) is None
    assert sortino_ratio(np.array([0.0, 0.01, 0.02]), 252) is None


def test_a_drawdown_is_measured_from_the_highest_equity_including_the_initial_capital() -> None:
    equity = np.array([90.0, 120, 60, 90, 121])
    np.testing.assert_allclose(drawdowns(equity, 100), [-0.1, 0, -0.5, -0.25, 0], rtol=1e-12)
    assert max_drawdown(equity, 100) == (-0.5, 2)


def test_a_curve_that_only_rises_has_no_drawdown() -> None:
    assert max_drawdown(np.array([101.0, 102, 103]), 100) == (0.0, 0)


def test_the_hit_rate_counts_closed_trades_with_a_profit() -> None:
    trades = (trade(5), trade(-5), trade(0), trade(7, closed=False))
    assert hit_rate(trades) == pytest.approx(1 / 3)
    assert hit_rate((trade(7, closed=False),)) is None
    assert hit_rate(()) is None


def test_the_statistics_of_a_small_example_are_exact() -> None:
    simulation = Simulation(
        equity=np.array([100.0, 110, 99, 111]),
        costs=np.array([1.0, 0, 0, 2]),
        traded_value=np.array([100.0, 0, 0, 110]),
        weights=np.array([1.0, 1, 1, 0]),
        trades=(trade(11),),
    )
    statistics = compute_statistics(simulation, capital=100, bars_per_year=4)
    assert statistics.total_return == pytest.approx(0.11)
    assert statistics.cagr == pytest.approx(0.11)
    assert statistics.max_drawdown == pytest.approx(-0.1)
    assert statistics.max_drawdown_bars == 1
    assert (statistics.exposure, statistics.trades, statistics.hit_rate) == (0.75, 1, 1.0)
    assert statistics.turnover == pytest.approx(210 / 105)
    assert (statistics.total_costs, statistics.final_equity) == (3, 111)


def test_statistics_without_trades_are_valid_json() -> None:
    idle = Simulation(np.full(9, 100.0), np.zeros(9), np.zeros(9), np.zeros(9), ())
    summary = compute_statistics(idle, capital=100, bars_per_year=252).to_summary()
    assert all(value is None or math.isfinite(value) for value in summary.values())
    assert (summary["sharpe"], summary["sortino"], summary["hit_rate"]) == (None, None, None)


def test_growth_too_fast_for_a_number_has_no_annual_rate() -> None:
    assert cagr(5000.0, 5275.7, 7 / 98_280) is None
    assert cagr(5000.0, 0.0, 1) is None
    assert cagr(100.0, 121.0, 2) == pytest.approx(0.1)


def finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


@settings(max_examples=examples(40), deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.sampled_from([0.0, 0.0, 0.3, 1.0]), min_size=3, max_size=120),
    st.sampled_from([252.0, 52.0, 98_280.0]),
)
def test_all_statistics_agree_with_plain_numpy(
    seed: int, shares: list[float], bars_per_year: float
) -> None:
    capital, weights = 5000.0, np.array(shares)
    bars = random_bars(len(weights), seed)
    account = simulate_portfolio(bars.times, bars.close, weights, capital=capital, cost_rate=0.002)
    statistics = compute_statistics(
        account, capital=capital, bars_per_year=bars_per_year
    ).to_summary()

    equity = np.array([capital, *account.equity])
    returns = equity[1:] / equity[:-1] - 1
    years = len(weights) / bars_per_year
    below = np.array([equity[t] / equity[: t + 1].max() - 1 for t in range(len(equity))])
    runs = "".join("x" if value < 0 else " " for value in below).split()
    deviation = np.sqrt(np.sum((returns - returns.sum() / len(returns)) ** 2) / (len(returns) - 1))
    downside = np.sqrt(np.sum(returns[returns < 0] ** 2) / len(returns))
    wins = [trade.profit > 0 for trade in account.trades if trade.is_closed]
    with np.errstate(over="ignore"):
        growth = np.exp(np.log(equity[-1] / equity[0]) / years) - 1
    expected = {
        "total_return": equity[-1] / equity[0] - 1,
        "cagr": finite(growth),
        "volatility": deviation * bars_per_year**0.5,
        "sharpe": returns.sum() / len(returns) / deviation * bars_per_year**0.5
        if deviation
        else None,
        "sortino": returns.sum() / len(returns) / downside * bars_per_year**0.5
        if downside
        else None,
        "max_drawdown": below.min(),
        "max_drawdown_bars": max(map(len, runs), default=0),
        "exposure": np.count_nonzero(weights) / len(weights),
        "turnover": account.traded_value.sum() / (account.equity.sum() / len(weights)) / years,
        "trades": len(account.trades),
        "hit_rate": sum(wins) / len(wins) if wins else None,
        "total_costs": account.costs.sum(),
        "final_equity": equity[-1],
    }
    assert set(statistics) == set(expected)
    for name, value in expected.items():
        if value is None:
            assert statistics[name] is None, name
        else:
            assert statistics[name] == pytest.approx(value, rel=1e-9, abs=1e-9), name
