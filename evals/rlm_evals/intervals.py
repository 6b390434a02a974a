"""Means with bootstrap intervals, paired differences and quantiles. Resampling is seeded, so reports are reproducible."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

RESAMPLES = 4000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % interval. ``low`` and ``high`` are None for fewer than two values."""

    mean: float
    low: float | None
    high: float | None
    n: int


def bootstrap_mean(values: Sequence[float], *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Percentile bootstrap of a mean (Efron and Tibshirani 1993, chapter 13).

    A sample of identical values gives an interval of zero width.
    """
    if not values:
        raise ValueError("no values")
    mean = fmean(values)
    if len(values) < 2:
        return Interval(mean, None, None, len(values))
    if min(values) == max(values):
        return Interval(mean, mean, mean, len(values))
    rng = random.Random(seed)  # noqa: S311  reproducible, not secret
    size = len(values)
    means = sorted(sum(rng.choices(values, k=size)) / size for _ in range(resamples))
    tail = (1 - LEVEL) / 2
    return Interval(mean, quantile(means, tail), quantile(means, 1 - tail), size)


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Mean of ours minus theirs over the same items, in the same order."""
    return bootstrap_mean([a - b for a, b in zip(ours, theirs, strict=True)])


def quantile(ordered: Sequence[float], share: float) -> float:
    """Quantile of an ordered sample, by linear interpolation."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
