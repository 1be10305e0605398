"""Means and 95% intervals over seeds and items, by a bootstrap that redraws both.

Draws depend on the bootstrap seed and the benchmark's name only, so every row of a table sees the same redrawn
items: differences between rows are paired.
"""

from __future__ import annotations

import zlib

import numpy as np

CHUNK = 1000  # draws at a time: bounds memory to CHUNK x items numbers


def redraw(outcomes: np.ndarray, draws: int, seed: int, name: str) -> np.ndarray:
    """Means of redrawn outcomes, shape (draws,); `outcomes` is (seeds, items) with entries 0 or 1.

    Seeds and items are each redrawn with replacement, as multinomial weights.
    """
    seeds, items = outcomes.shape
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    means = []
    for start in range(0, draws, CHUNK):
        count = min(CHUNK, draws - start)
        item_weights = generator.multinomial(items, np.full(items, 1 / items), size=count) / items
        seed_weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=count) / seeds
        means.append(((seed_weights @ outcomes) * item_weights).sum(axis=1))
    return np.concatenate(means)


def half_width(means: np.ndarray) -> float:
    """Half of the central 95% of redrawn means."""
    low, high = np.quantile(means, [0.025, 0.975])
    return float(high - low) / 2
