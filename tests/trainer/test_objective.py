"""The GDPO loss against numbers worked by hand, its properties, and what docs/objective/derivations.md says."""

from __future__ import annotations

import csv
import importlib.util
import itertools
import math
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gdpo.trainer.objective import advantages, completion_weights, gdpo_loss, pair_weights

PAIRS = ("adjacent", "all")
LINKS = ("sigmoid", "logsigmoid")
WELL_POSED = ("unweighted", "shifted", "reciprocal", "gap")
ADVANTAGES = ("literal", *WELL_POSED)
READINGS = list(itertools.product(PAIRS, LINKS, ADVANTAGES))
SIZES = (2, 3, 4, 6, 8, 10, 16, 32)

ROOT = math.sqrt(1.5)  # z-scores of the rewards 2, 1, 0: +-sqrt(3/2) and 0
BETA = 0.1


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


LINKED = {"sigmoid": sigmoid, "logsigmoid": lambda x: math.log(sigmoid(x))}


def tensor(*rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def value_and_gradient(log_ratios, rewards, mask=None, *, beta=BETA, **reading):
    log_ratios = log_ratios.clone().requires_grad_()
    loss = gdpo_loss(log_ratios, rewards, mask, beta=beta, **reading)
    loss.backward()
    return loss.detach(), log_ratios.grad


def start(rewards: torch.Tensor, **reading) -> torch.Tensor:
    """d loss / d log-ratio where the policy still is the reference."""
    return value_and_gradient(torch.zeros_like(rewards), rewards, **reading)[1]


def cosine(left: torch.Tensor, right: torch.Tensor) -> float:
    return torch.cosine_similarity(left.flatten(), right.flatten(), dim=0).item()


# Rewards on a grid of eighths: sums with and multiples of them keep their ties.
EIGHTHS = st.integers(-16, 16).map(lambda n: n / 8)


@st.composite
def groups(draw, at_least=2, contrast=True, distinct=False):
    """One group's rewards and log-ratios, (1, G) each; with `contrast` some rewards differ."""
    rewards = draw(st.lists(EIGHTHS, min_size=at_least, max_size=9, unique=distinct))
    assume(not contrast or len(set(rewards)) > 1)
    ratio = st.floats(-30, 30, allow_nan=False).map(lambda x: round(x, 3))
    log_ratios = draw(st.lists(ratio, min_size=len(rewards), max_size=len(rewards)))
    return tensor(rewards), tensor(log_ratios)


# ---------------------------------------------------------------------- numbers worked by hand


def test_advantages():
    """Rewards 2, 1, 0: mean 1, variance (1 + 0 + 1)/3 = 2/3, so A = 1/sqrt(2/3) = sqrt(3/2), 0, -sqrt(3/2)."""
    assert torch.allclose(advantages(tensor([2, 1, 0], [7, 7, 7])), tensor([ROOT, 0, -ROOT], [0, 0, 0]))
    assert torch.equal(advantages(torch.full((1, 8), 0.7)), torch.zeros(1, 8))


FOUR = tensor([14, 8, 6, 0])
FOUR_PAIRS = {"adjacent": [(0, 1), (1, 2), (2, 3)], "all": [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]}
# What w_i * l_i comes to, before beta.
FOUR_WEIGHTED = {
    "literal": [5, 5, 5, -5],
    "unweighted": [7, 1, -1, 7],
    "shifted": [26.6, 2.6, -2.2, 7],
    "reciprocal": [7 / 3.8, 1 / 2.6, -1 / 2.2, 7],
    "gap": [7, 1, -1, 7],
}
FOUR_GAPS = {"adjacent": [3 / 7, 1 / 7, 3 / 7], "all": [3 / 22, 4 / 22, 7 / 22, 1 / 22, 4 / 22, 3 / 22]}
# -gradient / (beta * link's slope) at log-ratio 0: w_i * n_i.
FOUR_START = {
    ("adjacent", "literal"): [5 / 21, 0, 0, 5 / 21],
    ("adjacent", "unweighted"): [1 / 3, 0, 0, -1 / 3],
    ("adjacent", "shifted"): [3.8 / 3, 0, 0, -1 / 3],
    ("adjacent", "reciprocal"): [1 / 11.4, 0, 0, -1 / 3],
    ("adjacent", "gap"): [3 / 7, -2 / 7, 2 / 7, -3 / 7],
    ("all", "literal"): [5 / 14, 5 / 6, 5 / 6, 5 / 14],
    ("all", "unweighted"): [1 / 2, 1 / 6, -1 / 6, -1 / 2],
    ("all", "shifted"): [1.9, 2.6 / 6, -2.2 / 6, -0.5],
    ("all", "reciprocal"): [1 / 7.6, 1 / 15.6, -1 / 13.2, -0.5],
    ("all", "gap"): [7 / 11, 1 / 11, -1 / 11, -7 / 11],
}


@pytest.mark.parametrize(("pairs", "link", "advantage"), READINGS)
def test_every_reading_by_hand(pairs, link, advantage):
    """Rewards 14, 8, 6, 0: mean 7, variance (49 + 1 + 1 + 49)/4 = 25, so A = 1.4, 0.2, -0.2, -1.4.

    Log-ratios 7, 1, -1, 7, beta 0.1. Weights w: literal 5/7, 5, -5, -5/7; shifted 3.8, 2.6, 2.2, 1; reciprocal one
    over that. w * l: literal 5, 5, 5, -5; unweighted 7, 1, -1, 7; shifted 26.6, 2.6, -2.2, 7. A score is a tenth of
    a difference: literal, adjacent: 0, 0, 1; unweighted, adjacent: 0.6, 0.2, -0.8; shifted, adjacent: 2.4, 0.48,
    -0.92. The loss is minus their linked mean. `gap` weighs unweighted's scores by A_i - A_j: adjacent 1.2, 0.4,
    1.2 of 2.8, so 3/7, 1/7, 3/7; all 1.2, 1.6, 2.8, 0.4, 1.6, 1.2 of 8.8, so 3, 4, 7, 1, 4, 3 of 22.
    """
    weighted = FOUR_WEIGHTED[advantage]
    scores = [BETA * (weighted[i] - weighted[j]) for i, j in FOUR_PAIRS[pairs]]
    shares = FOUR_GAPS[pairs] if advantage == "gap" else [1 / len(scores)] * len(scores)
    expected = -sum(share * LINKED[link](score) for share, score in zip(shares, scores, strict=True))
    loss = gdpo_loss(tensor([7, 1, -1, 7]), FOUR, beta=BETA, pairs=pairs, link=link, advantage=advantage)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("pairs", "link", "advantage"), READINGS)
def test_every_gradient_at_the_start_by_hand(pairs, link, advantage):
    """The same group at log-ratio 0: the gradient is -beta * slope * w_i * n_i, the slope 1/4 or, of log-sigmoid, 1/2.

    Net wins n, adjacent: (1, 0, 0, -1)/3; all: (3, 1, -1, -3)/6; gap, adjacent: from steps 3/7, 1/7, 3/7 it is 3/7,
    1/7 - 3/7, 3/7 - 1/7, -3/7; gap, all: (3 + 4 + 7)/22 = 7/11, (1 + 4 - 3)/22 = 1/11 and their negatives. The
    literal worst: n = -1/3, w = -5/7, so w * n = +5/21: it is raised as the best is.
    """
    slope = {"sigmoid": 1 / 4, "logsigmoid": 1 / 2}[link]
    expected = -BETA * slope * tensor(FOUR_START[pairs, advantage])
    assert torch.allclose(start(FOUR, pairs=pairs, link=link, advantage=advantage), expected, rtol=1e-12, atol=1e-15)


def test_order_of_the_group_is_by_reward():
    """Rewards 2, 0, 1 sort l = 3, -1, 1 into 3, 1, -1: neighbours differ by 2 and 2, the ends by 4.

    Eq. 13: -(sigmoid(0.2) + sigmoid(0.2)) / 2. Eq. 12: -2/(3 * 2) * (2 sigmoid(0.2) + sigmoid(0.4)).
    """
    given = {"beta": BETA, "advantage": "unweighted"}
    log_ratios, rewards = tensor([3, -1, 1]), tensor([2, 0, 1])
    adjacent = gdpo_loss(log_ratios, rewards, pairs="adjacent", **given)
    every = gdpo_loss(log_ratios, rewards, pairs="all", **given)
    assert adjacent.item() == pytest.approx(-sigmoid(0.2))
    assert every.item() == pytest.approx(-(2 * sigmoid(0.2) + sigmoid(0.4)) / 3)


def test_literal_weight_at_the_mean_is_zero():
    """Rewards 2, 1, 0: 1/A = 1/sqrt(1.5), undefined and so 0, -1/sqrt(1.5).

    Rewards 1, 0, 0.5 + e have A = ROOT, -ROOT and about ROOT * 4e/3 for the third: e = 1e-5 gives 1.6e-5, zero within
    1e-4; e = 1e-3 gives 1.6e-3, whose reciprocal 612 stands.
    """
    assert torch.allclose(completion_weights(tensor([2, 1, 0]), None, "literal"), tensor([1 / ROOT, 0, -1 / ROOT]))
    near, off = completion_weights(tensor([1, 0, 0.5 + 1e-5], [1, 0, 0.5 + 1e-3]), None, "literal")[:, 2].tolist()
    assert near == 0 and off == pytest.approx(1 / (ROOT * 4e-3 / 3), rel=1e-3)


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


def test_mean_over_groups():
    """Two groups of losses -sigmoid(0.1 * 2) and, without a contrast, 0: the mean is half the first."""
    loss = gdpo_loss(tensor([3, 1], [5, 7]), tensor([1, 0], [1, 1]), beta=BETA, advantage="unweighted")
    assert loss.item() == pytest.approx(-sigmoid(0.2) / 2)


# ---------------------------------------------------------------------- what is undefined in the paper, or bad input


@pytest.mark.parametrize(("pairs", "link", "advantage"), READINGS)
def test_groups_without_a_pair_and_padding(pairs, link, advantage):
    """A group of equal rewards, of one completion or of none adds 0 to the mean and has no gradient.

    A padded place changes nothing, whatever it holds.
    """
    reading = {"pairs": pairs, "link": link, "advantage": advantage}
    alone, slope = value_and_gradient(tensor([1, 2, -1]), tensor([2, 0, 1]), **reading)
    nan, inf = math.nan, math.inf
    log_ratios = tensor([1, 2, -1, nan], [1, 2, 3, 4], [9, -inf, nan, 1], [nan, 0, 0, 0])
    rewards = tensor([2, 0, 1, -1e9], [1, 1, 1, 1], [3, nan, inf, 1], [nan, 0, 1, 2])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    together, slopes = value_and_gradient(log_ratios, rewards, mask, **reading)
    assert together.item() == pytest.approx(alone.item() / 4, rel=1e-12)
    assert torch.allclose(slopes[0, :3], slope[0] / 4, rtol=1e-12) and slopes[0, :3].abs().max() > 0
    assert slopes[0, 3] == 0 and slopes[1:].abs().max() == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("function", ["loss", "advantages", "pairs"])
def test_non_finite_rewards_are_named(bad, function):
    rewards = tensor([1, 0, 2], [1, 0, bad])
    call = {
        "loss": lambda: gdpo_loss(torch.zeros(2, 3), rewards, beta=BETA),
        "advantages": lambda: advantages(rewards),
        "pairs": lambda: pair_weights(rewards, None, "all"),
    }[function]
    with pytest.raises(ValueError, match=rf"^rewards, group 1, completion 2: found {bad}, expected a finite number$"):
        call()


def test_wrong_shapes_and_names_are_refused():
    zeros, rewards = torch.zeros(2, 3), tensor([1, 0, 2])
    with pytest.raises(ValueError, match=r"log_ratios: found shape \(2, 3\), expected that of rewards, \(1, 3\)"):
        gdpo_loss(zeros, rewards, beta=BETA)
    with pytest.raises(ValueError, match=r"mask: found shape \(2, 3\)"):
        gdpo_loss(zeros[:1], rewards, zeros.bool(), beta=BETA)
    for wrong in ({"pairs": "neighbours"}, {"link": "hinge"}, {"advantage": "z"}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}: found .*expected one of"):
            gdpo_loss(zeros[:1], rewards, beta=BETA, **wrong)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("advantage", ADVANTAGES)
def test_reward_scales(dtype, advantage):
    """1e-30, 1e30, a range beyond the largest number, small differences on a large offset: the same rewards.

    Rounding makes no pair.
    """
    log_ratios = tensor([1, -2, 3, 0.5]).to(dtype)
    plain = gdpo_loss(log_ratios, torch.tensor([[0, 1, 3, 3]], dtype=dtype), beta=BETA, advantage=advantage)
    for scale, offset in ((1e-30, 0), (1e30, 0), (torch.finfo(dtype).max / 1.6, -1.5), (1, 1000), (2**-4, 1024)):
        rewards = (torch.tensor([[0, 1, 3, 3]], dtype=dtype) + offset) * scale
        moved = gdpo_loss(log_ratios, rewards, beta=BETA, advantage=advantage)
        assert moved.item() == pytest.approx(plain.item(), rel=1e-5), (scale, offset)
    rounding = torch.tensor([[0.1 + 0.2, 0.3, 0.6 / 2, 0.3]], dtype=dtype)
    assert gdpo_loss(log_ratios, rounding, beta=BETA, advantage=advantage) == 0
    assert advantages(rounding).abs().max() == 0


@pytest.mark.parametrize(("pairs", "link", "advantage"), READINGS)
def test_half_precision_log_ratios_are_scored_in_float32(pairs, link, advantage):
    """Log-ratios that bfloat16 holds exactly give float32's loss, and a gradient of their own dtype."""
    reading = {"pairs": pairs, "link": link, "advantage": advantage}
    log_ratios, rewards = torch.tensor([[1.5, -2.0, 0.25, 3.0]]), torch.tensor([[0.3, 1.1, 0.7, 0.7]])
    loss, slope = value_and_gradient(log_ratios.bfloat16(), rewards, **reading)
    exact, exact_slope = value_and_gradient(log_ratios, rewards, **reading)
    assert loss.dtype == torch.float32 and loss == exact
    assert slope.dtype == torch.bfloat16 and torch.allclose(slope.float(), exact_slope, rtol=1e-2)
    double, _ = value_and_gradient(log_ratios.double(), rewards.double(), **reading)
    assert double.dtype == torch.float64 and double.item() == pytest.approx(exact.item(), rel=1e-5)


def test_integer_rewards():
    """Counts of passed tests are rewards too."""
    whole = gdpo_loss(tensor([3, 1, 0]), torch.tensor([[4, 2, 2]]), beta=BETA, advantage="shifted")
    assert whole == gdpo_loss(tensor([3, 1, 0]), torch.tensor([[4.0, 2.0, 2.0]]), beta=BETA, advantage="shifted")


# ---------------------------------------------------------------------- properties


@pytest.mark.parametrize(("pairs", "link", "advantage"), READINGS)
def test_gradcheck(pairs, link, advantage):
    rewards = tensor([2.0, 1.5, 1.5, 0.0], [0.3, 0.1, 0.9, 0.4])
    log_ratios = torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    reading = {"beta": 0.5, "pairs": pairs, "link": link, "advantage": advantage}
    assert torch.autograd.gradcheck(lambda ratios: gdpo_loss(ratios, rewards, **reading), log_ratios.requires_grad_())


def assert_same(one, other):
    (loss, slope), (other_loss, other_slope) = one, other
    assert torch.allclose(loss, other_loss, rtol=1e-9, atol=1e-12)
    assert torch.allclose(slope, other_slope, rtol=1e-7, atol=1e-11)


@given(groups(contrast=False, at_least=1), st.randoms(use_true_random=False), st.sampled_from(READINGS))
@settings(max_examples=200, deadline=None)
def test_permuting_a_group_permutes_its_gradient(group, random, reading):
    rewards, log_ratios = group
    reading = dict(zip(("pairs", "link", "advantage"), reading, strict=True))
    order = list(range(rewards.shape[1]))
    random.shuffle(order)
    loss, slope = value_and_gradient(log_ratios, rewards, **reading)
    moved = value_and_gradient(log_ratios[:, order], rewards[:, order], **reading)
    assert_same((loss, slope[:, order]), moved)


@given(groups(), st.floats(-1e3, 1e3), st.floats(1e-6, 1e6), st.sampled_from(READINGS))
@settings(max_examples=200, deadline=None)
def test_reward_offset_and_scale_change_nothing(group, offset, scale, reading):
    rewards, log_ratios = group
    reading = dict(zip(("pairs", "link", "advantage"), reading, strict=True))
    # A reward next to its group's mean stands on 1e-4's edge, where rounding decides.
    assume(not ((advantages(rewards).abs() > 1e-5) & (advantages(rewards).abs() < 1e-3)).any())
    plain = value_and_gradient(log_ratios, rewards, **reading)
    assert_same(plain, value_and_gradient(log_ratios, rewards + offset, **reading))
    assert_same(plain, value_and_gradient(log_ratios, rewards * scale, **reading))


@given(st.lists(groups(contrast=False, at_least=1), min_size=1, max_size=4), st.sampled_from(READINGS))
@settings(max_examples=100, deadline=None)
def test_ragged_groups_are_the_mean_of_each_alone(batch, reading):
    reading = dict(zip(("pairs", "link", "advantage"), reading, strict=True))
    alone = [value_and_gradient(log_ratios, rewards, **reading) for rewards, log_ratios in batch]
    shape = len(batch), max(rewards.shape[1] for rewards, _ in batch)
    padded = {name: torch.full(shape, 55.5, dtype=torch.float64) for name in ("rewards", "log_ratios", "slope")}
    padded["slope"].zero_()
    mask = torch.zeros(shape, dtype=torch.bool)
    for row, ((rewards, log_ratios), (_, slope)) in enumerate(zip(batch, alone, strict=True)):
        size = rewards.shape[1]
        mask[row, :size] = True
        padded["rewards"][row, :size], padded["log_ratios"][row, :size] = rewards[0], log_ratios[0]
        padded["slope"][row, :size] = slope[0] / len(batch)
    mean = torch.stack([loss for loss, _ in alone]).mean()
    assert_same((mean, padded["slope"]), value_and_gradient(padded["log_ratios"], padded["rewards"], mask, **reading))


@given(groups(), st.sampled_from(PAIRS), st.sampled_from(LINKS), st.sampled_from(WELL_POSED))
@settings(max_examples=200, deadline=None)
def test_worse_is_never_pushed_up(group, pairs, link, advantage):
    """At any log-ratios. Term by term: only (better, worse) has a weight, never negative, and no completion's is.

    So the lowest level of a group, which only loses, is pushed down, and the highest, which only wins, up.
    """
    rewards, log_ratios = group
    weights = pair_weights(rewards, None, pairs, by_gap=advantage == "gap")[0]
    better = rewards[0][:, None] > rewards[0][None, :]
    assert (weights >= 0).all() and (weights[~better] == 0).all() and weights.sum() == pytest.approx(1)
    assert (completion_weights(rewards, None, advantage) > 0).all()
    slope = value_and_gradient(log_ratios, rewards, pairs=pairs, link=link, advantage=advantage)[1][0]
    assert (slope[rewards[0] == rewards.max()] < 0).all() and (slope[rewards[0] == rewards.min()] > 0).all()


@given(groups(), st.sampled_from(PAIRS), st.sampled_from(LINKS))
@settings(max_examples=100, deadline=None)
def test_literal_always_raises_the_worst(group, pairs, link):
    """As printed, 1/A < 0 below the mean: at any log-ratios the lowest level of a group is pushed up.

    The log-ratios are shrunk to |l / A| <= 15: beyond d = 37 float64's sigmoid is 1, and its slope 0.
    """
    rewards, log_ratios = group
    largest = (completion_weights(rewards, None, "literal") * log_ratios).abs().max()
    log_ratios = log_ratios * (15 / largest.clamp(min=15))
    slope = value_and_gradient(log_ratios, rewards, pairs=pairs, link=link, advantage="literal")[1][0]
    assert (slope[rewards[0] == rewards.min()] < 0).all() and (slope[rewards[0] == rewards.max()] < 0).all()


# ----------------------------------------------------- docs/objective/derivations.md, section by section


@pytest.mark.parametrize("size", SIZES)
def test_net_wins_of_distinct_rewards(size):
    """(a) At the start the gradient is -(beta/4) w_i n_i; adjacent: n = (1, 0, .., 0, -1)/(G - 1); all pairs:
    n_i = 2(G + 1 - 2i)/(G(G - 1)), i = 1 the best."""
    rewards = torch.arange(size, 0, -1, dtype=torch.float64)[None].square()
    place = torch.arange(1, size + 1, dtype=torch.float64)[None]
    adjacent = torch.zeros(1, size, dtype=torch.float64)
    adjacent[0, 0], adjacent[0, -1] = 1 / (size - 1), -1 / (size - 1)
    wins = {"adjacent": adjacent, "all": 2 * (size + 1 - 2 * place) / (size * (size - 1))}
    for pairs, advantage in itertools.product(PAIRS, ("literal", "unweighted", "shifted", "reciprocal")):
        expected = -BETA / 4 * completion_weights(rewards, None, advantage) * wins[pairs]
        assert torch.allclose(start(rewards, pairs=pairs, advantage=advantage), expected, atol=1e-15)


@pytest.mark.parametrize("pairs", PAIRS)
@given(best=st.integers(1, 9), worst=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_literal_with_two_levels_is_imitation(pairs, best, worst):
    """(a) m right and k wrong completions: A = sqrt(k/m), -sqrt(m/k), n = 1/m, -1/k, so n/A = 1/sqrt(mk) for each of
    them: the first step raises right and wrong alike, as supervised training on the whole group does."""
    slope = start(tensor([1] * best + [0] * worst), pairs=pairs, advantage="literal")
    assert torch.allclose(slope, torch.full_like(slope, -BETA / 4 / math.sqrt(best * worst)), rtol=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_adjacent_against_all_gradient(size):
    """(b) Distinct rewards: cosine sqrt(6(G-1)/(G(G+1))), norms' ratio sqrt(3G/(2(G^2-1))), projection 3/(G+1)."""
    rewards = torch.arange(size, dtype=torch.float64)[None]
    adjacent, every = (start(rewards, advantage="unweighted", pairs=pairs) for pairs in PAIRS)
    expected = math.sqrt(6 * (size - 1) / (size * (size + 1)))
    ratio = math.sqrt(3 * size / (2 * (size**2 - 1)))
    assert cosine(adjacent, every) == pytest.approx(expected)
    assert (adjacent.norm() / every.norm()).item() == pytest.approx(ratio)
    assert expected * ratio == pytest.approx(3 / (size + 1))


@pytest.mark.parametrize("size", [size for size in SIZES if size % 2 == 0])
def test_cosine_of_the_printed_loss(size):
    """(b) `literal`, evenly spaced rewards, G even: n_i / A_i is one number for all pairs, and 0 but for the two ends
    for adjacent ones: the cosine is 2 / sqrt(2 G) = sqrt(2/G), 0.45 at G = 10 where `unweighted` has 0.70."""
    rewards = torch.arange(size, dtype=torch.float64)[None]
    adjacent, every = (start(rewards, advantage="literal", pairs=pairs) for pairs in PAIRS)
    assert cosine(adjacent, every) == pytest.approx(math.sqrt(2 / size))


def test_cosine_falls_with_the_group():
    """(b) 1 at G = 2 and at G = 3, 0.70 at G = 10, and falling from 3 on."""
    cosines = [math.sqrt(6 * (size - 1) / (size * (size + 1))) for size in (2, 3, *range(4, 40))]
    assert cosines[0] == cosines[1] == 1 and cosines[8] == pytest.approx(0.7006, abs=1e-4)
    assert all(left > right for left, right in itertools.pairwise(cosines[1:]))


@given(groups(), st.sampled_from(LINKS), st.sampled_from(ADVANTAGES))
@settings(max_examples=100, deadline=None)
def test_two_levels_make_adjacent_and_all_one_loss(group, link, advantage):
    """(b) Two distinct rewards, so also G = 2: the same loss at any log-ratios, an error of exactly 0."""
    rewards, log_ratios = group
    rewards = (rewards > rewards.min()).double()
    assert_same(
        value_and_gradient(log_ratios, rewards, pairs="adjacent", link=link, advantage=advantage),
        value_and_gradient(log_ratios, rewards, pairs="all", link=link, advantage=advantage),
    )


@given(st.lists(st.integers(1, 5), min_size=2, max_size=6))
@settings(max_examples=60, deadline=None)
def test_cosine_with_levels(sizes):
    """(b) Levels of m_1 (best) .. m_K completions, b_k = worse - better ones than level k's:
    cosine (2G - m_1 - m_K) / (sqrt(1/m_1 + 1/m_K) * sqrt(sum m_k b_k^2)); of equal sizes, K takes G's place."""
    size, levels = sum(sizes), len(sizes)
    rewards = tensor([levels - k for k, many in enumerate(sizes) for _ in range(many)])
    balance = [sum(sizes[k + 1 :]) - sum(sizes[:k]) for k in range(levels)]
    spread = math.sqrt(sum(many * b**2 for many, b in zip(sizes, balance, strict=True)))
    expected = (2 * size - sizes[0] - sizes[-1]) / (math.sqrt(1 / sizes[0] + 1 / sizes[-1]) * spread)
    adjacent, every = (start(rewards, advantage="unweighted", pairs=pairs) for pairs in PAIRS)
    assert cosine(adjacent, every) == pytest.approx(expected)
    even = tensor([levels - k for k in range(levels) for _ in range(3)])
    adjacent, every = (start(even, advantage="unweighted", pairs=pairs) for pairs in PAIRS)
    assert cosine(adjacent, every) == pytest.approx(math.sqrt(6 * (levels - 1) / (levels * (levels + 1))))


def test_loss_of_an_ordered_policy():
    """(b) Log-ratios in the rewards' order, evenly spaced over 10 nats, beta 0.1: the ends' score is 1.

    Adjacent sees steps of 1/(G-1): its loss is -sigmoid(1/(G-1)), back to -1/2 as G grows; all pairs keep
    a mean score of (G+1)/(3(G-1)), so the values part: 0 at G = 2, then growing.
    """
    errors = []
    for size in SIZES:
        rewards = torch.arange(size, dtype=torch.float64)[None]
        log_ratios = 10 * rewards / (size - 1)
        adjacent, every = (
            gdpo_loss(log_ratios, rewards, beta=BETA, pairs=pairs, advantage="unweighted").item() for pairs in PAIRS
        )
        assert adjacent == pytest.approx(-sigmoid(1 / (size - 1)))
        tiny = [
            gdpo_loss(1e-4 * log_ratios, rewards, beta=BETA, pairs=pairs, advantage="unweighted").item() + 0.5
            for pairs in PAIRS
        ]
        assert tiny[0] / tiny[1] == pytest.approx(3 / (size + 1), rel=1e-3)
        errors.append(abs(adjacent - every))
    assert errors[0] < 1e-12 and all(left < right for left, right in itertools.pairwise(errors))


@given(groups(), st.sampled_from(READINGS))
@settings(max_examples=200, deadline=None)
def test_no_finite_stationary_point(group, reading):
    """(c) Along v the loss falls from any log-ratios, where w_i v_i = A_i: v = A_i / w_i, for literal A_i^2 >= 0."""
    rewards, log_ratios = group
    pairs, link, advantage = reading
    z = advantages(rewards)
    direction = z**2 if advantage == "literal" else z / completion_weights(rewards, None, advantage)
    slope = value_and_gradient(log_ratios, rewards, pairs=pairs, link=link, advantage=advantage)[1]
    assert (slope * direction).sum() < 0


@given(groups(), st.sampled_from(PAIRS), st.floats(-20, 20))
@settings(max_examples=60, deadline=None)
def test_the_stated_optimum_is_no_stationary_point(group, pairs, scale):
    """(c) At l_i = C A_i every literal pair scores C - C = 0: the loss -1/2 and the start's gradient, for every C."""
    rewards, _ = group
    z = advantages(rewards)
    assume((z.abs() > 1e-3).all())
    loss, slope = value_and_gradient(scale * z, rewards, pairs=pairs, advantage="literal")
    assert loss.item() == pytest.approx(-0.5)
    assert torch.allclose(slope, start(rewards, pairs=pairs, advantage="literal"), rtol=1e-6)
    assert slope.abs().max() > 1e-4


def test_the_stated_optimum_normalised():
    """(c) Of a probability l_i = C A_i - log Z, Z > 1. Rewards 1, 0, A = 1, -1: every literal score is
    -2 beta log Z, so that the stated optimum's loss is above the start's -1/2. C = 1, uniform reference: Z = cosh 1."""
    z = advantages(tensor([1, 0]))
    log_ratios = z - math.log(math.cosh(1))
    assert log_ratios.exp().mean().item() == pytest.approx(1)
    loss = gdpo_loss(log_ratios, tensor([1, 0]), beta=BETA, advantage="literal").item()
    assert loss == pytest.approx(-sigmoid(-0.2 * math.log(math.cosh(1)))) and loss > -0.5


@given(groups(), st.sampled_from(PAIRS), st.sampled_from(LINKS))
@settings(max_examples=100, deadline=None)
def test_sum_of_the_gradient(group, pairs, link):
    """(c) S = sum_i dL/dl_i at any log-ratios: 0 for unweighted and gap, below 0 for shifted (mass moves into the
    group), above 0 for reciprocal (it leaks out); below 0 for literal at the start with adjacent pairs."""
    rewards, log_ratios = group
    total = {
        advantage: value_and_gradient(log_ratios, rewards, pairs=pairs, link=link, advantage=advantage)[1].sum().item()
        for advantage in WELL_POSED
    }
    assert total["unweighted"] == pytest.approx(0, abs=1e-12) and total["gap"] == pytest.approx(0, abs=1e-12)
    assert total["shifted"] < 0 < total["reciprocal"]
    assert start(rewards, pairs="adjacent", link=link, advantage="literal").sum() < 0


def test_softmax_policy_gradient():
    """(c) Logits of a softmax over 5 outcomes, 3 in the group: d L / d logit_k = g_k - pi_k S, g_k = 0 outside."""
    theta = tensor([0.3, -0.2, 0.9, 0.1, -1.0])[0].requires_grad_()
    rewards = tensor([2, 0, 1])
    reference = torch.full((3,), math.log(0.2), dtype=torch.float64)
    for advantage in ADVANTAGES:
        log_ratios = (theta.log_softmax(-1)[:3] - reference)[None]
        loss = gdpo_loss(log_ratios, rewards, beta=BETA, advantage=advantage)
        (found,) = torch.autograd.grad(loss, theta)
        slope = value_and_gradient(log_ratios.detach(), rewards, advantage=advantage)[1][0]
        expected = torch.cat([slope, torch.zeros(2)]) - theta.detach().softmax(-1) * slope.sum()
        assert torch.allclose(found, expected)


@pytest.mark.parametrize("pairs", PAIRS)
def test_mass_of_the_group_at_the_start(pairs):
    """(c) Four equally likely completions, p each, and outcomes outside: under gradient descent on the logits the
    group's mass m changes at -S (p (1 - m)^2 + m * sum of squares outside): in for S < 0, out for S > 0."""
    outside = tensor([0.05, 0.15, 0.2])[0]
    probabilities = torch.cat([torch.full((4,), 0.15, dtype=torch.float64), outside])
    signs = {"literal": 1, "unweighted": 0, "shifted": 1, "reciprocal": -1, "gap": 0}
    for advantage, sign in signs.items():
        theta = probabilities.log().requires_grad_()
        log_ratios = (theta.log_softmax(-1) - probabilities.log())[None, :4]
        (slope,) = torch.autograd.grad(gdpo_loss(log_ratios, FOUR, beta=BETA, pairs=pairs, advantage=advantage), theta)
        (mass_slope,) = torch.autograd.grad(theta.softmax(-1)[:4].sum(), theta)
        change = -(slope * mass_slope).sum().item()
        total = start(FOUR, pairs=pairs, advantage=advantage).sum().item()
        assert change == pytest.approx(-total * (0.15 * 0.4**2 + 0.6 * outside.square().sum().item()), abs=1e-12)
        assert (change > 1e-6) - (change < -1e-6) == sign


def test_literal_with_two_outcomes_forgets_the_preference():
    """(c) Rewards 1, 0 give A = 1, -1: d = beta (l_1 + l_2), largest where both outcomes have probability 1/2."""
    reference = tensor([0.8, 0.2]).log()
    theta = tensor([2.0, -1.0]).requires_grad_()
    optimiser = torch.optim.SGD([theta], lr=20.0)
    for _ in range(200):
        optimiser.zero_grad()
        gdpo_loss(theta.log_softmax(-1) - reference, tensor([1, 0]), beta=BETA, advantage="literal").backward()
        optimiser.step()
    assert theta.detach().softmax(-1).tolist()[0] == pytest.approx([0.5, 0.5], abs=1e-3)


def test_links_saturate():
    """(f) Slope at a score d: sigmoid 1/4 at 0, half of it at |d| = ln(3 + 2 sqrt 2) = 1.763 on either side;
    log-sigmoid's tends to 1 on a misordered pair and to 0 on an ordered one."""
    half = math.log(3 + 2 * math.sqrt(2))
    slopes = {
        (link, d): -value_and_gradient(tensor([d, 0]), tensor([1, 0]), beta=1.0, link=link, advantage="unweighted")[1][
            0, 0
        ].item()
        for link in LINKS
        for d in (0, half, -half, 20, -20)
    }
    assert slopes["sigmoid", 0] == pytest.approx(1 / 4)
    assert slopes["sigmoid", half] == pytest.approx(1 / 8) and slopes["sigmoid", -half] == pytest.approx(1 / 8)
    assert slopes["sigmoid", -20] < 1e-8 and slopes["sigmoid", 20] < 1e-8
    assert slopes["logsigmoid", 0] == pytest.approx(1 / 2)
    assert slopes["logsigmoid", -20] == pytest.approx(1) and slopes["logsigmoid", 20] < 1e-8


@pytest.mark.parametrize("pairs", PAIRS)
def test_mean_length_weighs_by_length(pairs):
    """(f) With `length: mean` the completion weight is w_i / T_i: no reading is neutral any more where lengths differ.

    Rewards 2, 1, 0: adjacent n = (1, 0, -1)/2, all (2, 0, -2)/3. The best half as long as the worst: S < 0; twice as
    long: S > 0.
    """
    for lengths, sign in ((tensor([10, 10, 20]), -1), (tensor([20, 10, 10]), 1), (tensor([10, 10, 10]), 0)):
        totals = torch.zeros_like(lengths, requires_grad=True)
        gdpo_loss(totals / lengths, tensor([2, 1, 0]), beta=BETA, pairs=pairs, advantage="unweighted").backward()
        weight = {"adjacent": 1 / 2, "all": 2 / 3}[pairs]
        expected = -BETA / 4 * weight * tensor([1, 0, -1]) / lengths
        assert torch.allclose(totals.grad, expected)
        found = totals.grad.sum().item()
        assert (found > 1e-9) - (found < -1e-9) == sign


def test_grpo_direction_at_the_start():
    """(d) GRPO's clipped surrogate with its KL term (k3), at ratio 1 and policy = reference: gradient -A_i / G."""
    rewards = tensor([3, 1, 1, 0.5])
    z = advantages(rewards)
    log_ratios = torch.zeros_like(z, requires_grad=True)
    ratio = log_ratios.exp()
    surrogate = torch.minimum(ratio * z, ratio.clamp(0.8, 1.2) * z)
    kl = (-log_ratios).exp() + log_ratios - 1
    (-(surrogate - 0.04 * kl).mean()).backward()
    assert torch.allclose(log_ratios.grad, -z / 4)


@given(groups(), st.sampled_from(PAIRS), st.sampled_from(LINKS))
@settings(max_examples=100, deadline=None)
def test_literal_is_orthogonal_to_grpo(group, pairs, link):
    """(d) sum_i n_i (1/A_i) A_i = sum_i n_i = 0, if no A_i is 0; adjacent even then, where n_i is 0 inside."""
    rewards, _ = group
    z = advantages(rewards)
    assume(pairs == "adjacent" or (z.abs() > 1e-3).all())
    assert cosine(start(rewards, pairs=pairs, link=link, advantage="literal"), z) == pytest.approx(0, abs=1e-9)


@given(groups(), st.sampled_from(LINKS))
@settings(max_examples=100, deadline=None)
def test_gap_with_all_pairs_is_grpo_at_the_start(group, link):
    """(d) n_i = sum_j (A_i - A_j) / sum of gaps = G A_i / sum of gaps."""
    rewards, _ = group
    assert cosine(-start(rewards, pairs="all", link=link, advantage="gap"), advantages(rewards)) == pytest.approx(1)


@given(groups())
@settings(max_examples=100, deadline=None)
def test_unweighted_all_pairs_is_the_rank_correlation(group):
    """(d) n_i counts worse minus better ones: twice the centred mid-rank. Two levels: exactly GRPO's direction."""
    rewards, _ = group
    values = rewards[0].tolist()
    ranks = tensor([sum(other < mine for other in values) + values.count(mine) / 2 for mine in values])
    correlation = torch.corrcoef(torch.cat([ranks, rewards]))[0, 1].item()
    z = advantages(rewards)
    assert cosine(-start(rewards, pairs="all", advantage="unweighted"), z) == pytest.approx(correlation)
    two = (rewards > rewards.min()).double()
    for pairs, advantage in itertools.product(PAIRS, ("unweighted", "gap")):
        assert cosine(-start(two, pairs=pairs, advantage=advantage), advantages(two)) == pytest.approx(1)


@pytest.mark.parametrize("size", SIZES)
def test_cosine_with_grpo_for_even_rewards(size):
    """(d) Evenly spaced rewards, z = A_1 = sqrt(3(G-1)/(G+1)), q = A_1 + 1. Adjacent: unweighted sqrt(2/G) z; shifted
    and reciprocal both 2 z q / sqrt(G ((2z+1)^2 + 1)). All pairs: shifted q / sqrt(q^2 + 3(3G^2-7)/(5(G^2-1)))."""
    rewards = torch.arange(size, dtype=torch.float64)[None]
    top = math.sqrt(3 * (size - 1) / (size + 1))
    edge = 2 * top * (top + 1) / math.sqrt(size * ((2 * top + 1) ** 2 + 1))
    spread = 3 * (3 * size**2 - 7) / (5 * (size**2 - 1))
    expected = {
        ("adjacent", "unweighted"): math.sqrt(2 / size) * top,
        ("adjacent", "shifted"): edge,
        ("adjacent", "reciprocal"): edge,
        ("all", "unweighted"): 1,
        ("all", "shifted"): (top + 1) / math.sqrt((top + 1) ** 2 + spread),
    }
    for (pairs, advantage), value in expected.items():
        found = cosine(-start(rewards, pairs=pairs, advantage=advantage), advantages(rewards))
        assert found == pytest.approx(value), (pairs, advantage)


# ---------------------------------------------------------------------- the scripts that draw docs/objective/

DRAWN = Path(__file__).parents[2] / "docs" / "objective"


def script(name: str):
    spec = importlib.util.spec_from_file_location(f"objective_{name}", DRAWN / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "rows"), [("cosine", "log_ratio_rows"), ("grpo", "grpo_rows")])
def test_committed_numbers_are_reproduced(name, rows):
    """The committed CSVs hold what the scripts compute, and formula and measurement agree."""
    found = getattr(script("cosine"), rows)()
    with (DRAWN / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        kept = list(csv.DictReader(file))
    assert len(found) == len(kept)
    for row, old in zip(found, kept, strict=True):
        for key, value in row.items():
            assert old[key] == value if isinstance(value, str) else float(old[key]) == pytest.approx(value, abs=1e-4)
        if name == "cosine":
            assert row["cosine"] == pytest.approx(row["cosine_formula"])
            assert row["norm_ratio"] == pytest.approx(row["norm_ratio_formula"])


def test_cosine_in_parameters():
    """(b), (d) sum_i a_i x_i . sum_j b_j x_j = a' K b. A part that all x_i share drops out of vectors that sum to 0:
    K = I + 11' changes neither unweighted's cosine nor literal's orthogonality to GRPO.

    K = diag(4, 1), rewards 1, 0: literal's n/A = (1, 1), GRPO's (1, -1): cosine (4 - 1)/(4 + 1) = 0.6.
    """
    drawing = script("cosine")
    shared = torch.eye(10, dtype=torch.float64) + 1
    moves = drawing.directions(torch.arange(10, 0, -1, dtype=torch.float64))
    found = drawing.compare(shared, moves)
    assert found["unweighted"]["cosine"] == pytest.approx(math.sqrt(54 / 110))
    assert found["gap"]["grpo_all"] == pytest.approx(1)
    assert found["literal"]["grpo_all"] == pytest.approx(0, abs=1e-12)
    two = drawing.directions(tensor([1, 0])[0])
    assert drawing.compare(tensor([4, 0], [0, 1]), two)["literal"]["grpo_all"] == pytest.approx(0.6)
    rows = drawing.model_rows(
        "identity", [(torch.eye(10, dtype=torch.float64), tensor([2] * 7 + [1] * 3)[0], [*range(10)])]
    )
    ranks = {row["size"]: row for row in rows if (row["rewards"], row["advantage"]) == ("ranks", "unweighted")}
    own = next(row for row in rows if (row["rewards"], row["advantage"]) == ("own", "unweighted"))
    assert ranks[10]["cosine"] == pytest.approx(math.sqrt(54 / 110))
    assert ranks[10]["cosine_low"] == pytest.approx(ranks[10]["cosine_high"])
    assert own["cosine"] == pytest.approx(1)


def test_parameters_of_a_small_model():
    """`log_prob` sums log pi of the answer's tokens alone: uniform logits over 5 tokens give -2 log 5."""

    class Uniform(torch.nn.Module):
        def forward(self, ids):
            return type("Out", (), {"logits": torch.zeros(*ids.shape, 5)})

    assert script("cosine").log_prob(Uniform(), [1, 2, 3], [4, 0]).item() == pytest.approx(-2 * math.log(5))


def test_policy_of_twelve_outcomes():
    """(c) A noisy teacher: literal ends with less reward than it began with and raises the worst; the others do not."""
    drawing = script("policy")
    rows = drawing.simulate(40, 100, "adjacent")
    ends = {(row["teacher"], row["advantage"], row["step"]): row for row in rows if row["step"] in (0, 100)}
    for teacher, advantage in itertools.product(drawing.TEACHERS, ADVANTAGES):
        first, last = ends[teacher, advantage, 0], ends[teacher, advantage, 100]
        assert first["reward"] == ends[teacher, "literal", 0]["reward"]
        assert last["best"] > first["best"]
        assert (last["worst"] > first["worst"]) == (advantage == "literal")
        assert (last["reward"] < first["reward"]) == (advantage == "literal" and teacher.startswith("noisy"))
    with (DRAWN / "policy.csv").open(newline="", encoding="utf-8") as file:
        kept = list(csv.DictReader(file))
    assert {(row["teacher"], row["advantage"]) for row in kept} == {key[:2] for key in ends}


def test_pushing_the_better_alone_leaves_the_worst_without_gradient():
    """Rewards 3, 2, 1: the best and the middle are each a pair's better one, the worst is none's."""
    gradients = {}
    for pushes in ("both", "better"):
        log_ratios = torch.zeros(1, 3, requires_grad=True)
        loss = gdpo_loss(log_ratios, torch.tensor([[3.0, 2.0, 1.0]]), beta=1.0, advantage="unweighted", pushes=pushes)
        loss.backward()
        gradients[pushes] = log_ratios.grad[0]
    # Two pairs of weight 1/2, each with slope 1/4 at 0: the middle one's two pulls cancel where both count.
    torch.testing.assert_close(gradients["both"], torch.tensor([-0.125, 0.0, 0.125]))
    torch.testing.assert_close(gradients["better"], torch.tensor([-0.125, -0.125, 0.0]))
