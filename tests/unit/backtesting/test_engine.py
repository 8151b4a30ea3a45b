"""Equity, costs and trades follow from prices, weights and costs alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr.backtesting.engine import Simulation, simulate_portfolio
from ktrdr.marketdata.bars import Floats
from tests.thoroughness import examples
from tests.unit.backtesting.bars import random_bars

CAPITAL = 10_000.0


def run(closes: Floats, weights: Floats, cost_rate: float) -> Simulation:
    times = pd.date_range("2001-01-01", periods=len(closes), freq="D", tz="UTC")
    return simulate_portfolio(times, closes, weights, capital=CAPITAL, cost_rate=cost_rate)


@pytest.mark.parametrize("cost_rate", [0.0, 0.002])
def test_a_constant_full_weight_buys_once_and_follows_the_price(cost_rate: float) -> None:
    closes = random_bars(300).close
    result = run(closes, np.ones(300), cost_rate)
    np.testing.assert_allclose(
        result.equity, CAPITAL / (1 + cost_rate) * closes / closes[0], rtol=1e-12, atol=0
    )
    assert result.costs[0] == pytest.approx(CAPITAL * cost_rate / (1 + cost_rate), rel=1e-9)
    assert not result.costs[1:].any()
    (trade,) = result.trades
    assert (trade.entry_bar, trade.exit_bar, trade.is_closed) == (0, 299, False)


def test_a_constant_zero_weight_keeps_the_capital_and_costs_nothing() -> None:
    result = run(random_bars(50).close, np.zeros(50), 0.002)
    np.testing.assert_array_equal(result.equity, np.full(50, CAPITAL))
    assert not result.costs.any()
    assert not result.traded_value.any()
    assert result.trades == ()


def test_a_round_trip_is_exact_to_the_cent() -> None:
    result = run(np.array([100.0, 125, 150, 150]), np.array([1.0, 1, 0, 0]), 0.25)
    # 10,000 buy 80 units for 8,000 and 2,000 of costs; sold for 12,000, less 3,000.
    np.testing.assert_allclose(result.equity, [8000, 10_000, 9000, 9000], rtol=1e-12)
    np.testing.assert_allclose(result.costs, [2000, 0, 3000, 0], rtol=1e-9)
    np.testing.assert_allclose(result.traded_value, [8000, 0, 12_000, 0], rtol=1e-9)
    (trade,) = result.trades
    assert (trade.entry_bar, trade.exit_bar, trade.is_closed) == (0, 2, True)
    assert (trade.quantity, trade.profit) == pytest.approx((80, -1000))
    assert trade.cost_basis == pytest.approx(8000)


@pytest.mark.parametrize("seed", range(4))
def test_trades_happen_only_where_the_weight_changes(seed: int) -> None:
    generator = np.random.default_rng(seed)
    weights = generator.integers(0, 2, 200).astype(np.float64)
    result = run(random_bars(200, seed).close, weights, 0.001)
    changed = np.diff(weights, prepend=0.0) != 0
    np.testing.assert_array_equal(result.traded_value > 0, changed)
    np.testing.assert_allclose(result.costs, result.traded_value * 0.001, rtol=1e-9, atol=1e-9)
    # The profits of the trades add up to the change of the capital.
    held_entry = sum(t.quantity * t.entry_price * 0.001 for t in result.trades if not t.is_closed)
    assert held_entry >= 0
    total = sum(trade.profit for trade in result.trades)
    assert result.equity[-1] - CAPITAL == pytest.approx(total, abs=1e-6)


def test_higher_costs_leave_less_at_every_close() -> None:
    closes = random_bars(200).close
    weights = np.tile([0.0, 1, 1, 0], 50)
    cheap, expensive = run(closes, weights, 0.0005), run(closes, weights, 0.001)
    assert (expensive.equity[1:] < cheap.equity[1:]).all()


def test_a_price_does_not_change_earlier_results() -> None:
    closes, weights = random_bars(200).close, np.tile([0.0, 1, 1, 0], 50)
    changed = closes.copy()
    changed[150:] *= 2
    before, after = run(closes, weights, 0.001), run(changed, weights, 0.001)
    for name in ("equity", "costs", "traded_value"):
        np.testing.assert_array_equal(getattr(before, name)[:150], getattr(after, name)[:150])


@settings(max_examples=examples(40), deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.sampled_from([0.0, 0.0, 0.25, 0.5, 0.8, 1.0]), min_size=2, max_size=60),
    st.sampled_from([0.0, 0.0007, 0.01]),
)
def test_any_weights_lead_to_the_equity_of_an_account_computed_by_hand(
    seed: int, weights: list[float], cost_rate: float
) -> None:
    closes = random_bars(len(weights), seed).close
    result = run(closes, np.array(weights), cost_rate)
    cash, units, before = CAPITAL, 0.0, 0.0
    for t, (price, weight) in enumerate(zip(closes.tolist(), weights, strict=True)):
        traded = 0.0
        if weight != before:
            value = weight * (cash + units * price) - units * price
            # A purchase costs more than it buys, a sale brings in less than it sells.
            change = value / (price * (1 + cost_rate if value > 0 else 1 - cost_rate))
            traded = -units if weight == 0 else change
        cash -= traded * price + abs(traded) * price * cost_rate
        units, before = units + traded, weight
        assert result.equity[t] == pytest.approx(cash + units * price, rel=1e-9)
        assert result.costs[t] == pytest.approx(abs(traded) * price * cost_rate, rel=1e-9, abs=1e-8)
        assert cash > -1e-6
    profits = sum(trade.profit for trade in result.trades)
    assert profits == pytest.approx(result.equity[-1] - CAPITAL, abs=1e-6)


def test_a_position_bought_and_sold_in_parts_is_one_trade_at_average_prices() -> None:
    result = run(np.array([100.0, 50, 100, 100]), np.array([0.5, 0.8, 0.4, 0]), 0.0)
    (trade,) = result.trades
    # 50 units for 5,000; of 7,500 another 3,500 buys 70 at 50; of 13,500 6,600 are sold at 100.
    assert trade.quantity == pytest.approx(120)
    assert trade.entry_price == pytest.approx((5000 + 3500) / 120)
    assert trade.exit_price == pytest.approx(100)
    assert trade.profit == pytest.approx(12_000 - 8500)
    assert (trade.entry_bar, trade.exit_bar, trade.is_closed) == (0, 3, True)
