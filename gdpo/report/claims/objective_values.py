"""The exact values of the paper's claims about the objective, which docs/objective/derivations.md proves.

Everything is for one group at G distinct, evenly spaced rewards, the paper's G = 10 unless said, in the space of the
completions' log-ratios; `proof` in claims.yaml names the test that holds each against gdpo.trainer.objective itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

Reading = Literal["literal", "shifted"]
GROUP = 10  # the paper's G
BETA = 0.1  # the paper's beta; no value here depends on it


def adjacent_error(size: int) -> float:
    """|adjacent - all| / |all| of the first gradients in a group of `size` distinct rewards (derivations, b).

    With the norms' ratio r, r^2 = 3G / (2 (G^2 - 1)), and r times their cosine 3 / (G + 1): sqrt(r^2 - 6/(G+1) + 1).
    """
    error: float = max(0.0, 3 * size / (2 * (size**2 - 1)) - 6 / (size + 1) + 1) ** 0.5
    return error


def advantages(size: int) -> np.ndarray:
    """z-scores of evenly spaced rewards, best first, (size,)."""
    rewards = np.arange(size, 0, -1, dtype=float)
    z: np.ndarray = (rewards - rewards.mean()) / rewards.std()
    return z


def weights(z: np.ndarray, reading: Reading) -> np.ndarray:
    """What multiplies each log-ratio: 1/A as printed (`literal`) or A - min A + 1 (`shifted`)."""
    return 1 / z if reading == "literal" else z - z.min() + 1


def gradient(log_ratios: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """dL/dl of eq. 13, -1/(G-1) sum sigmoid(beta (w_i l_i - w_j l_j)), j the next worse than i; best first, (G,)."""
    score = -np.diff(BETA * weight * log_ratios)
    sigmoid = 1 / (1 + np.exp(-score))
    slope = sigmoid * (1 - sigmoid) / len(score)
    gradient: np.ndarray = -BETA * weight * (np.append(slope, 0.0) - np.append(0.0, slope))
    return gradient


def first_step(reading: Reading) -> np.ndarray:
    """Where training moves each log-ratio at first, best first: minus the gradient at log-ratio 0."""
    return -gradient(np.zeros(GROUP), weights(advantages(GROUP), reading))


def cosine_with_grpo(reading: Reading) -> float:
    """Of the first step with GRPO's, which moves l_i along A_i (derivations, d)."""
    step, grpo = first_step(reading), advantages(GROUP)
    return float(step @ grpo / np.linalg.norm(step) / np.linalg.norm(grpo))


def worst_over_best(reading: Reading) -> float:
    """The worst completion's first move, as a multiple of the best one's move up (derivations, a)."""
    step = first_step(reading)
    return float(step[-1] / step[0])


def slope_at_stated_optimum(c: float = 3.0) -> float:
    """The printed loss' gradient norm at l_i = C A_i over that at the start; 0 at an optimum (derivations, c)."""
    z = advantages(GROUP)
    literal = weights(z, "literal")
    there, start = gradient(c * z, literal), gradient(np.zeros(GROUP), literal)
    return float(np.linalg.norm(there) / np.linalg.norm(start))


# name -> (value, unit)
VALUES: dict[str, tuple[Callable[[], float], str]] = {
    "adjacent_error_growth": (lambda: adjacent_error(GROUP) - adjacent_error(2), "relative error, G = 10 minus G = 2"),
    "adjacent_error_over_a_tenth": (
        lambda: adjacent_error(GROUP) - 0.1 * adjacent_error(2),
        "relative error, G = 10 minus a tenth of G = 2",
    ),
    "adjacent_terms": (lambda: (GROUP - 1) / (GROUP * (GROUP - 1) / 2), "terms, adjacent over all, G = 10"),
    "slope_at_stated_optimum": (slope_at_stated_optimum, "gradient norm over the start's"),
    "grpo_cosine_literal": (lambda: cosine_with_grpo("literal"), "cosine of first steps"),
    "grpo_cosine_shifted": (lambda: cosine_with_grpo("shifted"), "cosine of first steps"),
    "worst_move_literal": (lambda: worst_over_best("literal"), "worst's first move over best's"),
    "worst_move_shifted": (lambda: worst_over_best("shifted"), "worst's first move over best's"),
}
