"""The portfolio: what the targets come to in money, kept by ``bt`` with costs on every trade."""

from __future__ import annotations

from dataclasses import dataclass

import bt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ktrdr.marketdata.bars import Floats

# The share of capital that is held at each close, 0 to 1.
Positions = NDArray[np.float64]

_ASSET = "asset"


@dataclass(frozen=True, slots=True)
class Trade:
    """A position from its first purchase until nothing is left of it.

    One that is still held is valued at the last close.

    Attributes:
        entry: Index of the bar at whose close it was first bought; ``exit`` is that of the sale.
        entry_price: What a unit was bought for, on average; ``exit_price`` is the same of sales.
        quantity: All the units bought, a fraction allowed.
        profit: In money, after all costs.
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

    A change of the target is traded at that bar's close; between changes nothing is. Units are
    fractional. TradingCosts come out of what is traded: a purchase spends
    ``target * equity - value of the position``, costs included, and a sale brings in as much after
    costs; a target of 0 sells everything.

    Args:
        times: The bars' times.
        closes: Their closing prices.
        targets: The share of capital to hold at each close, 0 to 1.
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
        if entry is None:
            entry = index
        elif not held[index]:
            trades.append(_trade(closes, held, cost, entry, index, closed=True))
            entry = None
    if entry is not None:
        trades.append(_trade(closes, held, cost, entry, len(closes) - 1, closed=False))
    return trades


def _trade(
    closes: Floats, held: Floats, cost: float, entry: int, last: int, *, closed: bool
) -> Trade:
    prices = closes[entry : last + 1]
    units = np.diff(held[entry : last + 1], prepend=0.0)
    bought, sold = np.maximum(units, 0.0), np.maximum(-units, 0.0)
    paid, received, left = float(bought @ prices), float(sold @ prices), float(held[last])
    value, quantity = received + left * float(prices[-1]), float(np.sum(bought))
    return Trade(
        entry,
        last,
        paid / quantity,
        value / quantity,
        quantity,
        value - paid - cost * (paid + received),
        closed,
    )
