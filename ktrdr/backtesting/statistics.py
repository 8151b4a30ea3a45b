"""What is said of an equity curve. Every figure has its formula beside it.

Notation: E_0 … E_n is the equity at each close, r_t = E_t / E_{t-1} - 1, Y the number of bars in a
year. Returns are taken in excess of nothing: the risk-free rate is 0 throughout.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from ktrdr.backtesting.engine import Simulation, Trade
from ktrdr.marketdata.bars import Floats


@dataclass(frozen=True, slots=True)
class Statistics:
    """The figures; fractions are not percent. None where a figure is not defined."""

    total_return: float
    cagr: float | None
    volatility: float
    sharpe: float | None
    sortino: float | None
    max_drawdown: float
    max_drawdown_bars: int
    exposure: float
    turnover: float
    trades: int
    hit_rate: float | None
    total_costs: float
    final_equity: float

    def to_summary(self) -> dict[str, float | int | None]:
        """By name, for JSON."""
        return asdict(self)


def describe(simulation: Simulation, *, capital: float, bars_a_year: float) -> Statistics:
    """All figures of a simulation."""
    equity = simulation.equity
    returns = returns_of(equity, capital)
    depth, length = max_drawdown(equity, capital)
    years = len(equity) / bars_a_year
    return Statistics(
        total_return=float(equity[-1] / capital - 1),
        cagr=cagr(capital, float(equity[-1]), years),
        volatility=volatility(returns, bars_a_year),
        sharpe=sharpe(returns, bars_a_year),
        sortino=sortino(returns, bars_a_year),
        max_drawdown=depth,
        max_drawdown_bars=length,
        exposure=float(np.mean(simulation.targets > 0)),
        turnover=float(np.sum(simulation.traded) / np.mean(equity) / years),
        trades=len(simulation.trades),
        hit_rate=hit_rate(simulation.trades),
        total_costs=float(np.sum(simulation.costs)),
        final_equity=float(equity[-1]),
    )


def returns_of(equity: Floats, capital: float) -> Floats:
    """r_t for every bar; the first is measured against the capital at the start."""
    before = np.concatenate(([capital], equity[:-1]))
    return equity / before - 1


def cagr(start: float, end: float, years: float) -> float | None:
    """Compound annual growth rate: (E_n / E_0)^(1 / years) - 1.

    None where there is no such figure, and where minutes make a year beyond all numbers.
    """
    if years <= 0 or end <= 0:
        return None
    try:
        return float((end / start) ** (1 / years) - 1)
    except OverflowError:
        return None


def volatility(returns: Floats, bars_a_year: float) -> float:
    """Annualised standard deviation: std(r, ddof=1) * sqrt(Y)."""
    return float(np.std(returns, ddof=1) * np.sqrt(bars_a_year))


def sharpe(returns: Floats, bars_a_year: float) -> float | None:
    """Mean(r) / std(r, ddof=1) * sqrt(Y); W. F. Sharpe, Journal of Portfolio Management, 1994."""
    deviation = float(np.std(returns, ddof=1))
    return float(np.mean(returns) / deviation * np.sqrt(bars_a_year)) if deviation > 0 else None


def sortino(returns: Floats, bars_a_year: float) -> float | None:
    """Mean(r) / sqrt(mean(min(r, 0)^2)) * sqrt(Y); Sortino and Price, J. Investing, 1994."""
    downside = float(np.sqrt(np.mean(np.minimum(returns, 0.0) ** 2)))
    return float(np.mean(returns) / downside * np.sqrt(bars_a_year)) if downside > 0 else None


def drawdowns(equity: Floats, capital: float) -> Floats:
    """How far below its highest yet the equity is at each close: E_t / max(E_0 … E_t) - 1."""
    peaks = np.maximum.accumulate(np.concatenate(([capital], equity)))[1:]
    return equity / peaks - 1


def max_drawdown(equity: Floats, capital: float) -> tuple[float, int]:
    """The deepest drawdown, a fraction not above 0, and the longest time below a peak, in bars."""
    below = drawdowns(equity, capital)
    longest = current = 0
    for is_below in (below < 0).tolist():
        current = current + 1 if is_below else 0
        longest = max(longest, current)
    return float(np.min(below)), longest


def hit_rate(trades: tuple[Trade, ...]) -> float | None:
    """The share of closed trades with a profit after costs."""
    closed = [trade for trade in trades if trade.closed]
    return sum(trade.profit > 0 for trade in closed) / len(closed) if closed else None
