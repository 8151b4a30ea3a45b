"""The portfolio: what the targets come to in money, kept by ``bt`` with costs on every trade."""

from __future__ import annotations

from dataclasses import dataclass

import bt
import numpy as np
import pandas as pd

from ktrdr.backtesting.strategy import Positions
from ktrdr.marketdata.bars import Floats

_ASSET = "asset"


@dataclass(frozen=True, slots=True)
class Trade:
    """A position from its purchase to its sale; one that is still held is valued at the last close.

    Attributes:
        entry: Index of the bar at whose close it was bought; ``exit`` is that of the sale.
        quantity: Units, a fraction allowed.
        profit: In money, after the costs of both sides.
        closed: Whether it was sold before the end.
    """

    entry: int
    exit: int
    entry_price: float
    exit_price: float
    quantity: float
    profit: float
    closed: bool

    @property
    def cost_basis(self) -> float:
        """What was paid for it, without costs."""
        return self.quantity * self.entry_price


@dataclass(frozen=True, slots=True)
class Simulation:
    """What came of it.

    Attributes:
        equity: Cash and position at each close, in money.
        costs: Paid at each close, in money.
        traded: Value bought or sold at each close, in money.
        targets: The share of capital held at each close.
    """

    equity: Floats
    costs: Floats
    traded: Floats
    targets: Positions
    trades: tuple[Trade, ...]


def simulate(
    times: pd.DatetimeIndex, closes: Floats, targets: Positions, *, capital: float, cost: float
) -> Simulation:
    """Trades ``targets`` at the closes.

    A change of the target is traded at that bar's close; between changes nothing is. Buying invests
    all cash, its costs included, in fractional units: ``quantity = cash / (price * (1 + cost))``.

    Args:
        times: The bars' times.
        closes: Their closing prices.
        targets: The share of capital to hold at each close, 0 or 1.
        capital: Cash at the start.
        cost: Commission and slippage, as a fraction of the traded value.
    """
    changes = np.flatnonzero(np.diff(targets, prepend=0.0))
    weights = pd.DataFrame({_ASSET: targets[changes]}, index=times[changes])
    strategy = bt.Strategy(_ASSET, [bt.algos.WeighTarget(weights), bt.algos.Rebalance()])
    backtest = bt.Backtest(
        strategy,
        pd.DataFrame({_ASSET: closes}, index=times),
        initial_capital=capital,
        commissions=lambda quantity, price: abs(quantity) * price * cost,
        integer_positions=False,
        progress_bar=False,
    )
    backtest.run()
    # bt puts a row of its own before the first bar.
    kept = backtest.strategy
    equity = kept.values.to_numpy(dtype=np.float64)[1:]
    held = kept.positions[_ASSET].to_numpy(dtype=np.float64)[1:] if len(changes) else 0 * equity
    traded = np.abs(np.diff(held, prepend=0.0)) * closes
    return Simulation(
        equity=equity,
        costs=kept.fees.to_numpy(dtype=np.float64)[1:],
        traded=traded,
        targets=targets,
        trades=tuple(_trades(closes, held, cost)),
    )


def _trades(closes: Floats, held: Floats, cost: float) -> list[Trade]:
    trades = []
    entry: int | None = None
    for index in np.flatnonzero(np.diff(held, prepend=0.0)).tolist():
        if entry is not None:
            trades.append(_trade(closes, held, cost, entry, index, closed=True))
        entry = index if held[index] else None
    if entry is not None:
        trades.append(_trade(closes, held, cost, entry, len(closes) - 1, closed=False))
    return trades


def _trade(
    closes: Floats, held: Floats, cost: float, entry: int, last: int, *, closed: bool
) -> Trade:
    quantity, bought, sold = float(held[entry]), float(closes[entry]), float(closes[last])
    costs = quantity * cost * (bought + (sold if closed else 0.0))
    return Trade(entry, last, bought, sold, quantity, quantity * (sold - bought) - costs, closed)
