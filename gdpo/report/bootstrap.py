"""Means, 95% intervals and p-values over seeds and items, by a bootstrap that resamples both; Holm's adjustment.

Resampled items depend on the bootstrap seed and the benchmark's name only, so that all rows of a table have the same
ones: differences between rows are paired. Resampled seeds are the same for all benchmarks, since a seed is one training
run whatever it is scored on.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap, 1993 (percentile interval, two-sided level); Holm, A
simple sequentially rejective multiple test procedure, 1979.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

CHUNK = 1000  # draws at a time: bounds memory to CHUNK x items numbers
LEVEL = 0.05
DIGITS = 9  # smaller differences are rounding: an average of +1 and -1 may differ from zero in its last bit


def bootstrap_means(outcomes: np.ndarray, draws: int, seed: int, name: str) -> np.ndarray:
    """Bootstrap means, shape (draws,), of `outcomes`, (seeds, items), shares between 0 and 1.

    Seeds and items are resampled with replacement, as how often each is drawn.
    """
    seeds, items = outcomes.shape
    right = np.asarray(outcomes, dtype=np.float32).T
    means = []
    for start in range(0, draws, CHUNK):
        size = min(CHUNK, draws - start)
        per_seed = _counts(items, size, seed, f"items of {name}", start) @ right  # 0 and 1: exact below 2^24
        means.append((per_seed * _counts(seeds, size, seed, "seeds", start)).sum(axis=1, dtype=np.float64))
    redrawn: np.ndarray = np.concatenate(means) / (seeds * items)
    return redrawn


@lru_cache(maxsize=512)
def _counts(n: int, draws: int, seed: int, name: str, start: int) -> np.ndarray:
    """How often each of n is drawn in n draws with replacement, shape (draws, n); the same for every row of a table."""
    generator = np.random.default_rng([seed, zlib.crc32(name.encode()), start])
    drawn = generator.integers(n, size=(draws, n)) + n * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * n).reshape(draws, n).astype(np.float32)


def interval(draws: np.ndarray) -> tuple[float, float]:
    """The central 95% of bootstrap means or differences (percentile interval)."""
    low, high = np.quantile(draws, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def p_value(draws: np.ndarray) -> float:
    """Two-sided bootstrap p-value of a difference: twice the share of draws on the rarer side of zero, at most 1.

    One is added to count and total, so that it is never 0: the smallest is 2 / (draws + 1).
    """
    rounded = np.round(draws, DIGITS)
    rarer = min(int((rounded <= 0).sum()), int((rounded >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(rounded) + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: significant at a level where the adjusted one is below it."""
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
