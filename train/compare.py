"""Means, standard errors and paired comparisons: what held-out rows allow to be said, and no more."""

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev

from fucina.schemas.evaluation import Comparison, Figure, Outcome

# With fewer rows a normal-looking interval is a guess about the tails.
LEAST_ROWS = 5


def figure(values: Sequence[float]) -> Figure:
    """Mean and standard error over rows (s / √n, s with n - 1)."""
    se = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Figure(mean=fmean(values), se=se, n=len(values))


def compare(values: Sequence[float], base: Sequence[float], *, lower_is_better: bool) -> Comparison:
    """A model against the base on the same rows, in the same order; 95 % interval of the paired difference."""
    difference = figure([value - other for value, other in zip(values, base, strict=True)])
    if difference.se is None or difference.n < LEAST_ROWS:
        return Comparison(difference=difference, outcome="within noise")
    half = t_quantile(0.975, difference.n - 1) * difference.se
    low, high = difference.mean - half, difference.mean + half
    outcome: Outcome = "within noise"
    if low > 0 or high < 0:
        outcome = "better" if (high < 0) is lower_is_better else "worse"
    return Comparison(difference=difference, low=low, high=high, outcome=outcome)


def t_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t by its expansion around the normal one (Abramowitz and Stegun 26.7.5).

    Within 1 % from 4 degrees of freedom on, for probabilities up to 0.975.
    """
    z = NormalDist().inv_cdf(probability)
    first = (z**3 + z) / (4 * freedom)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom * freedom)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom * freedom * freedom)
    return z + first + second + third
