"""Micro with two seeds, the fewest that show a spread, for tests of what is computed over seeds."""

from __future__ import annotations

from gdpo.config.loader import load_scale
from gdpo.config.scale import Scale


def two_seeds() -> Scale:
    return load_scale("micro").model_copy(update={"seeds": [0, 1], "bootstrap_draws": 200})
