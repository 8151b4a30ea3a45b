"""What the best of many tries is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, variance
from typing import Final

EULER_MASCHERONI: Final = 0.5772156649015329


def expected_best(ratios: Sequence[float]) -> float | None:
    """The Sharpe ratio that the best of N tries without any skill would be expected to have.

    sqrt(V) * ((1 - g) * z(1 - 1 / N) + g * z(1 - 1 / (N e))), where V is the variance of the ratios
    over the tries, with N - 1, z the quantile of the standard normal distribution and g the
    Euler-Mascheroni constant. None for fewer than two tries. Tries that resemble one another count
    as if they did not, so it is rather too high than too low. Source: D. H. Bailey and M. López de
    Prado, "The Deflated Sharpe Ratio", Journal of Portfolio Management 40(5), 2014.
    """
    count = len(ratios)
    if count < 2:
        return None
    quantile = NormalDist().inv_cdf
    spread = math.sqrt(variance(ratios))
    return spread * (
        (1 - EULER_MASCHERONI) * quantile(1 - 1 / count)
        + EULER_MASCHERONI * quantile(1 - 1 / (count * math.e))
    )
