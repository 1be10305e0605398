"""Means and 95% intervals over seeds and items, by a bootstrap that redraws both.

Draws depend on the bootstrap seed and the benchmark's name only, so every row of a table sees the same redrawn
items: differences between rows are paired.
"""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np

CHUNK = 1000  # draws at a time: bounds memory to CHUNK x items numbers


def redraw(outcomes: np.ndarray, draws: int, seed: int, name: str) -> np.ndarray:
    """Means of redrawn outcomes, shape (draws,); `outcomes` is (seeds, items) with entries 0 or 1.

    Seeds and items are each redrawn with replacement, as multinomial weights.
    """
    seeds, items = outcomes.shape
    means = []
    for start in range(0, draws, CHUNK):
        seed_counts, item_counts = _counts(seeds, items, min(CHUNK, draws - start), seed, name, start)
        means.append(np.einsum("di,di->d", seed_counts @ outcomes, item_counts) / (seeds * items))
    return np.concatenate(means)


@lru_cache(maxsize=512)
def _counts(seeds: int, items: int, draws: int, seed: int, name: str, start: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each seed (draws, seeds) and item (draws, items) is drawn; the same for every row of a table."""
    generator = np.random.default_rng([seed, zlib.crc32(name.encode()), start])
    item_counts = generator.multinomial(items, np.full(items, 1 / items), size=draws)
    seed_counts = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)
    return seed_counts.astype(np.float32), item_counts.astype(np.float32)


def half_width(means: np.ndarray) -> float:
    """Half of the central 95% of redrawn means."""
    low, high = np.quantile(means, [0.025, 0.975])
    return float(high - low) / 2
