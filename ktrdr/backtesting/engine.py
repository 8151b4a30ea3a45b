"""Simulation of a portfolio with ``bt``, with costs for every trade."""

from __future__ import annotations

from dataclasses import dataclass

import bt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ktrdr.marketdata.bars import Floats

# Share of the capital that is held at each close, 0 to 1.
Weights = NDArray[np.float64]

_ASSET = "asset"


@dataclass(frozen=True, slots=True)
class Trade:
    """A position from its first purchase until it is completely sold.

    The last close is the exit of a position that is still open.

    Attributes:
        entry_bar: Index of the bar of the first purchase.
        exit_bar: Index of the bar of the sale.
        entry_price: Average price of the purchases.
        exit_price: Average price of the sales.
        quantity: Total number of units bought, which may be fractional.
        profit: Profit after all costs, in money.
        is_closed: True if the position was sold before the end.
    """

    entry_bar: int
    exit_bar: int
    entry_price: float
    exit_price: float
    quantity: float
    profit: float
    is_closed: bool

    @property
    def cost_basis(self) -> float:
        """Money paid for the units, without costs."""
        return self.quantity * self.entry_price


@dataclass(frozen=True, slots=True)
class Simulation:
    """The course of a simulated portfolio.

    Attributes:
        equity: Value of cash and position at each close, in money.
        costs: Costs paid at each close, in money.
        traded_value: Value bought or sold at each close, in money.
        weights: Share of the capital held at each close.
        trades: Trades in the order of their entries.
    """

    equity: Floats
    costs: Floats
    traded_value: Floats
    weights: Weights
    trades: tuple[Trade, ...]


def simulate_portfolio(
    times: pd.DatetimeIndex, closes: Floats, weights: Weights, *, capital: float, cost_rate: float
) -> Simulation:
    """Simulate a portfolio that follows the weights.

    A change of the weight is traded at that bar's close; nothing is traded between changes. Units
    are fractional. Costs are part of the traded value: a purchase spends
    ``weight * equity - value of the position``, costs included, and a sale brings in as much after
    costs. A weight of 0 sells everything.

    Args:
        times: Times of the bars.
        closes: Closing prices of the bars.
        weights: Share of the capital to hold at each close, 0 to 1.
        capital: Cash at the start.
        cost_rate: Commission and slippage, as a fraction of the traded value.
    """
    changes = np.flatnonzero(np.diff(weights, prepend=0.0))
    changed_weights = pd.DataFrame({_ASSET: weights[changes]}, index=times[changes])
    backtest = bt.Backtest(
        bt.Strategy(_ASSET, [bt.algos.WeighTarget(changed_weights), bt.algos.Rebalance()]),
        pd.DataFrame({_ASSET: closes}, index=times),
        initial_capital=capital,
        commissions=lambda quantity, price: abs(quantity) * price * cost_rate,
        integer_positions=False,
        progress_bar=False,
    )
    backtest.run()
    # bt inserts a row before the first bar.
    account = backtest.strategy
    equity = account.values.to_numpy(dtype=np.float64)[1:]
    units = account.positions[_ASSET].to_numpy(dtype=np.float64)[1:] if len(changes) else 0 * equity
    return Simulation(
        equity=equity,
        costs=account.fees.to_numpy(dtype=np.float64)[1:],
        traded_value=np.abs(np.diff(units, prepend=0.0)) * closes,
        weights=weights,
        trades=tuple(_list_trades(closes, units, cost_rate)),
    )


def _list_trades(closes: Floats, units: Floats, cost_rate: float) -> list[Trade]:
    trades = []
    entry: int | None = None
    for bar in np.flatnonzero(np.diff(units, prepend=0.0)).tolist():
        if entry is None:
            entry = bar
        elif not units[bar]:
            trades.append(_build_trade(closes, units, cost_rate, entry, bar, is_closed=True))
            entry = None
    if entry is not None:
        last = len(closes) - 1
        trades.append(_build_trade(closes, units, cost_rate, entry, last, is_closed=False))
    return trades


def _build_trade(
    closes: Floats, units: Floats, cost_rate: float, entry: int, last: int, *, is_closed: bool
) -> Trade:
    prices = closes[entry : last + 1]
    changes = np.diff(units[entry : last + 1], prepend=0.0)
    bought, sold = np.maximum(changes, 0.0), np.maximum(-changes, 0.0)
    paid, received, left = float(bought @ prices), float(sold @ prices), float(units[last])
    value, quantity = received + left * float(prices[-1]), float(np.sum(bought))
    return Trade(
        entry,
        last,
        paid / quantity,
        value / quantity,
        quantity,
        value - paid - cost_rate * (paid + received),
        is_closed,
    )
