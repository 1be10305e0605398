"""The GDPO loss against numbers worked by hand, and where its readings push the best and the worst."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gdpo.objective import advantages, completion_weights, gdpo_loss, pair_weights

ROOT = math.sqrt(1.5)  # z-scores of the rewards 2, 1, 0: +-sqrt(3/2) and 0


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def tensor(*rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def gradient(rewards: torch.Tensor, **reading) -> torch.Tensor:
    """d loss / d log-ratio where the policy still is the reference."""
    log_ratios = torch.zeros_like(rewards, requires_grad=True)
    gdpo_loss(log_ratios, rewards, beta=0.1, **reading).backward()
    return log_ratios.grad


def test_advantages():
    """Rewards 2, 1, 0: mean 1, variance (1 + 0 + 1)/3 = 2/3, so A = 1/sqrt(2/3) = sqrt(3/2), 0, -sqrt(3/2)."""
    assert torch.allclose(advantages(tensor([2, 1, 0], [7, 7, 7])), tensor([ROOT, 0, -ROOT], [0, 0, 0]))
    assert torch.equal(advantages(torch.full((1, 8), 0.7)), torch.zeros(1, 8))


def test_literal_pair():
    """Rewards 1, 0 give A = 1, -1. With l = 2, 3, d = 0.1 * (2/1 - 3/-1) = 0.5; loss -sigmoid(0.5)."""
    loss = gdpo_loss(tensor([2, 3]), tensor([1, 0]), beta=0.1, advantage="literal")
    assert loss.item() == pytest.approx(-sigmoid(0.5))


def test_unweighted_adjacent_and_all():
    """Rewards 2, 0, 1 sort l = 3, -1, 1 into 3, 1, -1: neighbours differ by 2 and 2, the ends by 4.

    Eq. 13: -(sigmoid(0.2) + sigmoid(0.2)) / 2. Eq. 12: -2/(3 * 2) * (2 sigmoid(0.2) + sigmoid(0.4)).
    """
    given = {"beta": 0.1, "advantage": "unweighted"}
    log_ratios, rewards = tensor([3, -1, 1]), tensor([2, 0, 1])
    adjacent = gdpo_loss(log_ratios, rewards, pairs="adjacent", **given)
    every = gdpo_loss(log_ratios, rewards, pairs="all", **given)
    assert adjacent.item() == pytest.approx(-sigmoid(0.2))
    assert every.item() == pytest.approx(-(2 * sigmoid(0.2) + sigmoid(0.4)) / 3)


def test_shifted_with_logsigmoid():
    """Rewards 1, 0: w = 3, 1. With l = 2, 1, d = 0.1 * (3 * 2 - 1 * 1) = 0.5; loss log(1 + e^-0.5)."""
    given = {"beta": 0.1, "advantage": "shifted", "link": "logsigmoid"}
    assert gdpo_loss(tensor([2, 1]), tensor([1, 0]), **given).item() == pytest.approx(math.log1p(math.exp(-0.5)))


def test_literal_weight_at_the_mean_is_zero():
    """Rewards 2, 1, 0: 1/A = 1/sqrt(1.5), undefined and so 0, -1/sqrt(1.5)."""
    assert torch.allclose(completion_weights(tensor([2, 1, 0]), None, "literal"), tensor([1 / ROOT, 0, -1 / ROOT]))


def test_ties_share_their_step():
    """Rewards 2, 2, 1, 0: steps 2>1 and 1>0 weigh 1/2 each; the first is split over its two pairs, 1/4 each.

    All pairs: 5 of the 6 differ, 1/5 each.
    """
    rewards = tensor([2, 2, 1, 0])
    adjacent, every = torch.zeros(4, 4, dtype=torch.float64), torch.zeros(4, 4, dtype=torch.float64)
    adjacent[0, 2] = adjacent[1, 2] = 0.25
    adjacent[2, 3] = 0.5
    for i, j in ((0, 2), (0, 3), (1, 2), (1, 3), (2, 3)):
        every[i, j] = 0.2
    assert torch.allclose(pair_weights(rewards, None, "adjacent")[0], adjacent)
    assert torch.allclose(pair_weights(rewards, None, "all")[0], every)


@pytest.mark.parametrize("pairs", ["adjacent", "all"])
@pytest.mark.parametrize("advantage", ["literal", "unweighted", "shifted"])
def test_equal_rewards_and_padding(pairs, advantage):
    """A tied group adds 0 to the mean and has no gradient; a padded place changes nothing."""
    reading = {"beta": 0.1, "pairs": pairs, "advantage": advantage}
    alone = gdpo_loss(tensor([1, 2, -1]), tensor([2, 0, 1]), **reading)
    log_ratios = tensor([1, 2, -1, 9], [1, 2, 3, 4]).requires_grad_()
    rewards = tensor([2, 0, 1, -5], [1, 1, 1, 1])
    mask = torch.tensor([[True, True, True, False], [True] * 4])
    both = gdpo_loss(log_ratios, rewards, mask, **reading)
    both.backward()
    assert both.item() == pytest.approx(alone.item() / 2)
    assert log_ratios.grad[1].abs().max() == 0 and log_ratios.grad[0, 3] == 0
    assert log_ratios.grad[0, :3].abs().max() > 0


@given(st.lists(st.integers(0, 4), min_size=2, max_size=8).filter(lambda r: len(set(r)) > 1))
@settings(max_examples=50, deadline=None)
def test_shifted_is_well_posed_at_the_start(rewards):
    """The best go up, the worst down, the better end harder; those between stay, however ties are sorted."""
    slope = gradient(tensor(rewards), advantage="shifted")[0]
    for reward, value in zip(rewards, slope.tolist(), strict=True):
        if reward == max(rewards):
            assert value < 0
        elif reward == min(rewards):
            assert value > 0
        else:
            assert value == pytest.approx(0, abs=1e-12)
    assert slope.sum() < 0
    backwards = gradient(tensor(rewards[::-1]), advantage="shifted")[0]
    assert torch.allclose(backwards.flip(0), slope)


def test_literal_raises_the_worst_as_well():
    """As printed, 1/A < 0 below the mean. Rewards 2, 1, 0 at l = 0: -beta/(4 * 2 * sqrt(1.5)) at both ends."""
    expected = -0.1 / (4 * 2 * ROOT)
    assert torch.allclose(gradient(tensor([2, 1, 0]), advantage="literal"), tensor([expected, 0, expected]))


def test_adjacent_against_all_gradient():
    """With A = 1 and G = 10 distinct rewards the gradients' cosine at l = 0 is sqrt(6(G-1)/(G(G+1))) = 0.70."""
    rewards = torch.arange(10, dtype=torch.float64)[None]
    slopes = [gradient(rewards, advantage="unweighted", pairs=pairs) for pairs in ("adjacent", "all")]
    assert torch.cosine_similarity(*slopes).item() == pytest.approx(math.sqrt(54 / 110))


ADVANTAGES = ("literal", "unweighted", "shifted", "reciprocal", "gap")
READINGS = list(itertools.product(("adjacent", "all"), ("sigmoid", "logsigmoid"), ADVANTAGES))


@pytest.mark.parametrize(("pairs", "link", "advantage"), READINGS)
def test_gradcheck(pairs, link, advantage):
    rewards = tensor([2.0, 1.5, 1.5, 0.0], [0.3, 0.1, 0.9, 0.4])
    log_ratios = torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    reading = {"beta": 0.5, "pairs": pairs, "link": link, "advantage": advantage}
    assert torch.autograd.gradcheck(lambda ratios: gdpo_loss(ratios, rewards, **reading), log_ratios.requires_grad_())
