"""Values that mathematics fixes, by hand and against the loss itself."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch

from gdpo.report.claims import objective_values
from gdpo.trainer.objective import gdpo_loss


@pytest.mark.parametrize("size", [2, 3, 10])
def test_the_adjacent_error_is_that_of_the_losses(size):
    """G = 2: one pair, no error. G = 3: r^2 = 9/16, 6/4, so sqrt(1/16) = 1/4. G = 10: sqrt(30/198 - 6/11 + 1)."""
    by_hand = {2: 0.0, 3: 0.25, 10: sqrt(30 / 198 - 6 / 11 + 1)}
    assert objective_values.adjacent_error(size) == pytest.approx(by_hand[size])
    adjacent, every = (loss_gradient(size, "unweighted", np.zeros(size), pairs) for pairs in ("adjacent", "all"))
    relative = np.linalg.norm(adjacent - every) / np.linalg.norm(every)
    assert objective_values.adjacent_error(size) == pytest.approx(relative, abs=1e-7)


def loss_gradient(size, reading, log_ratios, pairs="adjacent"):
    free = torch.tensor(log_ratios[None], dtype=torch.float64, requires_grad=True)
    rewards = torch.arange(size, 0, -1, dtype=torch.float64)[None]
    gdpo_loss(free, rewards, beta=objective_values.BETA, advantage=reading, pairs=pairs).backward()
    return free.grad[0].numpy()


@pytest.mark.parametrize("reading", ["literal", "shifted"])
def test_the_gradient_is_that_of_the_loss(reading):
    log_ratios = np.linspace(-3, 5, objective_values.GROUP) ** 2
    weights = objective_values.weights(objective_values.advantages(objective_values.GROUP), reading)
    by_loss = loss_gradient(objective_values.GROUP, reading, log_ratios)
    assert objective_values.gradient(log_ratios, weights) == pytest.approx(by_loss, abs=1e-12)


def test_values_by_hand():
    """z of the best of ten evenly spaced is sqrt(27/11). literal: 1/A times (1, 0, .., 0, -1)/9 moves both ends up
    alike, orthogonal to A, at the stated optimum as at the start. shifted: best 2z + 1, worst 1, the latter down."""
    z = sqrt(3 * 9 / 11)
    value = {name: function() for name, (function, _) in objective_values.VALUES.items()}
    assert value["worst_move_literal"] == pytest.approx(1)
    assert value["worst_move_shifted"] == pytest.approx(-1 / (2 * z + 1))
    assert value["grpo_cosine_literal"] == pytest.approx(0, abs=1e-12)
    assert value["grpo_cosine_shifted"] == pytest.approx(2 * z * (z + 1) / sqrt(10 * ((2 * z + 1) ** 2 + 1)))
    assert value["slope_at_stated_optimum"] == pytest.approx(1)
    assert value["adjacent_terms"] == pytest.approx(9 / 45)
    assert value["adjacent_error_growth"] == value["adjacent_error_over_a_tenth"] == pytest.approx(0.778, abs=0.001)
