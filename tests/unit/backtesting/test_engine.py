"""Money: every close's equity follows from prices, targets and costs, and from nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr.backtesting.engine import Simulation, simulate
from ktrdr.marketdata.bars import Floats
from tests.unit.backtesting.bars import random_bars

CAPITAL = 10_000.0


def run(closes: Floats, targets: Floats, cost: float) -> Simulation:
    times = pd.date_range("2001-01-01", periods=len(closes), freq="D", tz="UTC")
    return simulate(times, closes, targets, capital=CAPITAL, cost=cost)


@pytest.mark.parametrize("cost", [0.0, 0.002])
def test_always_holding_is_buying_once_and_following_the_price(cost: float) -> None:
    closes = random_bars(300).close
    found = run(closes, np.ones(300), cost)
    np.testing.assert_allclose(
        found.equity, CAPITAL / (1 + cost) * closes / closes[0], rtol=1e-12, atol=0
    )
    assert found.costs[0] == pytest.approx(CAPITAL * cost / (1 + cost), rel=1e-9)
    assert not found.costs[1:].any()
    (trade,) = found.trades
    assert (trade.entry, trade.exit, trade.closed) == (0, 299, False)


def test_never_holding_keeps_the_capital_and_costs_nothing() -> None:
    found = run(random_bars(50).close, np.zeros(50), 0.002)
    np.testing.assert_array_equal(found.equity, np.full(50, CAPITAL))
    assert not found.costs.any()
    assert not found.traded.any()
    assert found.trades == ()


def test_a_round_trip_is_exact_to_the_cent() -> None:
    found = run(np.array([100.0, 125, 150, 150]), np.array([1.0, 1, 0, 0]), 0.25)
    # 10,000 buy 80 units for 8,000 and 2,000 of costs; sold for 12,000, less 3,000.
    np.testing.assert_allclose(found.equity, [8000, 10_000, 9000, 9000], rtol=1e-12)
    np.testing.assert_allclose(found.costs, [2000, 0, 3000, 0], rtol=1e-9)
    np.testing.assert_allclose(found.traded, [8000, 0, 12_000, 0], rtol=1e-9)
    (trade,) = found.trades
    assert (trade.entry, trade.exit, trade.closed) == (0, 2, True)
    assert (trade.quantity, trade.profit) == pytest.approx((80, -1000))
    assert trade.cost_basis == pytest.approx(8000)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_traded_but_where_the_target_changes(seed: int) -> None:
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 2, 200).astype(np.float64)
    found = run(random_bars(200, seed).close, targets, 0.001)
    changed = np.diff(targets, prepend=0.0) != 0
    np.testing.assert_array_equal(found.traded > 0, changed)
    np.testing.assert_allclose(found.costs, found.traded * 0.001, rtol=1e-9, atol=1e-9)
    # Gains and losses of the trades are all that the capital became.
    held_entry = sum(t.quantity * t.entry_price * 0.001 for t in found.trades if not t.closed)
    assert held_entry >= 0
    total = sum(trade.profit for trade in found.trades)
    assert found.equity[-1] - CAPITAL == pytest.approx(total, abs=1e-6)


def test_higher_costs_leave_less_at_every_close() -> None:
    closes = random_bars(200).close
    targets = np.tile([0.0, 1, 1, 0], 50)
    cheap, dear = run(closes, targets, 0.0005), run(closes, targets, 0.001)
    assert (dear.equity[1:] < cheap.equity[1:]).all()


def test_a_later_price_changes_nothing_before_it() -> None:
    closes, targets = random_bars(200).close, np.tile([0.0, 1, 1, 0], 50)
    changed = closes.copy()
    changed[150:] *= 2
    before, after = run(closes, targets, 0.001), run(changed, targets, 0.001)
    for name in ("equity", "costs", "traded"):
        np.testing.assert_array_equal(getattr(before, name)[:150], getattr(after, name)[:150])


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.sampled_from([0.0, 0.0, 0.25, 0.5, 0.8, 1.0]), min_size=2, max_size=60),
    st.sampled_from([0.0, 0.0007, 0.01]),
)
def test_any_shares_of_the_capital_come_to_what_a_plain_account_comes_to(
    seed: int, targets: list[float], cost: float
) -> None:
    closes = random_bars(len(targets), seed).close
    found = run(closes, np.array(targets), cost)
    cash, units, before = CAPITAL, 0.0, 0.0
    for t, (price, target) in enumerate(zip(closes.tolist(), targets, strict=True)):
        traded = 0.0
        if target != before:
            wanted = target * (cash + units * price) - units * price
            # A purchase costs more than it buys, a sale brings in less than it sells.
            change = wanted / (price * (1 + cost if wanted > 0 else 1 - cost))
            traded = -units if target == 0 else change
        cash -= traded * price + abs(traded) * price * cost
        units, before = units + traded, target
        assert found.equity[t] == pytest.approx(cash + units * price, rel=1e-9)
        assert found.costs[t] == pytest.approx(abs(traded) * price * cost, rel=1e-9, abs=1e-8)
        assert cash > -1e-6
    profits = sum(each.profit for each in found.trades)
    assert profits == pytest.approx(found.equity[-1] - CAPITAL, abs=1e-6)


def test_a_position_that_was_bought_and_sold_in_parts_is_one_trade_at_average_prices() -> None:
    found = run(np.array([100.0, 50, 100, 100]), np.array([0.5, 0.8, 0.4, 0]), 0.0)
    (trade,) = found.trades
    # 50 units for 5,000; of 7,500 another 3,500 buys 70 at 50; of 13,500 6,600 are sold at 100.
    assert trade.quantity == pytest.approx(120)
    assert trade.entry_price == pytest.approx((5000 + 3500) / 120)
    assert trade.exit_price == pytest.approx(100)
    assert trade.profit == pytest.approx(12_000 - 8500)
    assert (trade.entry, trade.exit, trade.closed) == (0, 3, True)
