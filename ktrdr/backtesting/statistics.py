"""Statistics of equity curves and trials, with their formulas.

Notation: E_0 … E_n is the equity at each close, r_t = E_t / E_{t-1} - 1, and Y the number of bars
in a year. The risk-free rate is 0 throughout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist, variance
from typing import Final

import numpy as np

from ktrdr.backtesting.engine import Simulation, Trade
from ktrdr.marketdata.bars import Floats

EULER_MASCHERONI: Final = 0.5772156649015329


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of a simulation; fractions, not percent. None means undefined."""

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
        """Return the statistics by name, for JSON."""
        return asdict(self)


def compute_statistics(
    simulation: Simulation, *, capital: float, bars_per_year: float
) -> Statistics:
    """Return all statistics of a simulation."""
    equity = simulation.equity
    returns = bar_returns(equity, capital)
    depth, length = max_drawdown(equity, capital)
    years = len(equity) / bars_per_year
    return Statistics(
        total_return=float(equity[-1] / capital - 1),
        cagr=cagr(capital, float(equity[-1]), years),
        volatility=volatility(returns, bars_per_year),
        sharpe=sharpe_ratio(returns, bars_per_year),
        sortino=sortino_ratio(returns, bars_per_year),
        max_drawdown=depth,
        max_drawdown_bars=length,
        exposure=float(np.mean(simulation.weights > 0)),
        turnover=float(np.sum(simulation.traded_value) / np.mean(equity) / years),
        trades=len(simulation.trades),
        hit_rate=hit_rate(simulation.trades),
        total_costs=float(np.sum(simulation.costs)),
        final_equity=float(equity[-1]),
    )


def bar_returns(equity: Floats, capital: float) -> Floats:
    """Return r_t for every bar. The first return is relative to the initial capital."""
    return equity / np.concatenate(([capital], equity[:-1])) - 1


def cagr(start: float, end: float, years: float) -> float | None:
    """Return the compound annual growth rate: (E_n / E_0)^(1 / years) - 1.

    None if the rate is undefined, or too large for a number, as for a gain within minutes.
    """
    if years <= 0 or end <= 0:
        return None
    try:
        return float((end / start) ** (1 / years) - 1)
    except OverflowError:
        return None


def volatility(returns: Floats, bars_per_year: float) -> float:
    """Return the annualised standard deviation: std(r, ddof=1) * sqrt(Y)."""
    return float(np.std(returns, ddof=1) * np.sqrt(bars_per_year))


def sharpe_ratio(returns: Floats, bars_per_year: float) -> float | None:
    """Return the annualised Sharpe ratio: mean(r) / std(r, ddof=1) * sqrt(Y).

    None if the deviation is 0, for which the ratio is undefined. Source: W. F. Sharpe, "The Sharpe
    Ratio", Journal of Portfolio Management, 1994.
    """
    deviation = float(np.std(returns, ddof=1))
    return float(np.mean(returns) / deviation * np.sqrt(bars_per_year)) if deviation > 0 else None


def sortino_ratio(returns: Floats, bars_per_year: float) -> float | None:
    """Return the annualised Sortino ratio: mean(r) / sqrt(mean(min(r, 0)^2)) * sqrt(Y).

    None if no return is negative. Source: Sortino and Price, Journal of Investing, 1994.
    """
    downside = float(np.sqrt(np.mean(np.minimum(returns, 0.0) ** 2)))
    return float(np.mean(returns) / downside * np.sqrt(bars_per_year)) if downside > 0 else None


def drawdowns(equity: Floats, capital: float) -> Floats:
    """Return each close's distance below the highest equity so far: E_t / max(E_0 … E_t) - 1."""
    peaks = np.maximum.accumulate(np.concatenate(([capital], equity)))[1:]
    return equity / peaks - 1


def max_drawdown(equity: Floats, capital: float) -> tuple[float, int]:
    """Return the deepest drawdown (0 or negative) and the longest time below a peak, in bars."""
    below = drawdowns(equity, capital)
    longest = current = 0
    for is_below in (below < 0).tolist():
        current = current + 1 if is_below else 0
        longest = max(longest, current)
    return float(np.min(below)), longest


def hit_rate(trades: tuple[Trade, ...]) -> float | None:
    """Return the share of closed trades with a profit after costs."""
    closed = [trade for trade in trades if trade.is_closed]
    return sum(trade.profit > 0 for trade in closed) / len(closed) if closed else None


def expected_max_sharpe(ratios: Sequence[float]) -> float | None:
    """Return the expected maximum of the Sharpe ratios of N trials without skill.

    sqrt(V) * ((1 - g) * z(1 - 1 / N) + g * z(1 - 1 / (N e))), where V is the variance of the ratios
    over the trials, with N - 1, z the quantile of the standard normal distribution and g the
    Euler-Mascheroni constant. None for fewer than two trials. The formula assumes independent
    trials, so it overestimates for similar ones. Source: D. H. Bailey and M. López de Prado, "The
    Deflated Sharpe Ratio", Journal of Portfolio Management 40(5), 2014.
    """
    count = len(ratios)
    if count < 2:
        return None
    quantile = NormalDist().inv_cdf
    return math.sqrt(variance(ratios)) * (
        (1 - EULER_MASCHERONI) * quantile(1 - 1 / count)
        + EULER_MASCHERONI * quantile(1 - 1 / (count * math.e))
    )
