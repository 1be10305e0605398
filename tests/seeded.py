"""Micro with two seeds, the fewest that show a spread, for tests of what is computed over seeds."""

from __future__ import annotations

from gdpo.config import Scale, load_scale


def two_seeds() -> Scale:
    return load_scale("micro").model_copy(update={"seeds": [0, 1], "bootstrap_draws": 200})
