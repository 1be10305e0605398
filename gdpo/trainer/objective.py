"""The GDPO loss (paper, section GDPO; appendix, eq. 12 and 13): pure tensors, no model, no files.

A group is G completions of one prompt with rewards r_i and log-ratios
l_i = log pi(y_i|q) - log pi_ref(y_i|q). A pair (i, j) of it, with r_i > r_j, has the score
d_ij = beta * (w_i * l_i - w_j * l_j), and the loss is minus the mean over pairs of sigmoid(d_ij). `pairs`,
`link` and `advantage` choose what the paper prints or leaves open, each independently of the others;
docs/objective/derivations.md derives what each does.

Groups of different sizes are padded to one (B, G) with a mask; padding may be any number, NaN too. Rewards that
differ by rounding alone are equal. A group without two different rewards (one completion, none, or all alike) has no
pair. Rewards are data: no gradient flows into them, and all that is computed from them is at least float32.
"""

from __future__ import annotations

import sys
from numbers import Real
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from gdpo.core.errors import ArgumentError

Pairs = Literal["adjacent", "all"]
Link = Literal["sigmoid", "logsigmoid"]
Advantage = Literal["literal", "unweighted", "shifted", "reciprocal", "gap"]
Pushes = Literal["both", "better"]

# A z-score closer to 0 than this gets weight 0: a reciprocal above 1e4 is a division by zero rather than a weight.
ZERO_ADVANTAGE = 1e-4
# Neighbouring rewards closer than this many float32 roundings of the group's largest one are equal: 1e-6 of it. The
# largest counts as 1e-31 at least, so that the least difference, 1e-37, has all its digits.
TIE_ROUNDINGS = 8


def gdpo_loss(
    log_ratios: Tensor,
    rewards: Tensor,
    mask: Tensor | None = None,
    *,
    beta: float = 0.1,
    pairs: Pairs = "adjacent",
    link: Link = "sigmoid",
    advantage: Advantage = "shifted",
    pushes: Pushes = "both",
) -> Tensor:
    """The mean GDPO loss of B groups, a scalar: in [-1, 0] for the sigmoid link, above 0 for the log-sigmoid.

    Args:
        log_ratios: (B, G), nats. Half precision is computed, and the loss returned, in float32.
        rewards: (B, G), any scale; only their order and their z-scores matter.
        mask: (B, G) bool, true where a completion exists; absent, every one does.
        beta: the inverse temperature, 0.1 in the paper.
        pairs: "adjacent" is eq. 13, neighbours in reward; "all" is eq. 12; see `pair_weights`.
        link: "sigmoid" as printed, or DPO's "logsigmoid".
        advantage: how A_i weighs l_i; see `completion_weights`.
        pushes: "better" lets no gradient into a pair's worse completion, a control (ours): nothing is pushed down.

    The defaults are those of `GDPOConfig`.

    A group without two different rewards adds 0 to the mean and has no gradient. Raises ArgumentError, a ValueError,
    on a reward or a beta that is not finite, on what is no tensor, on no completion at all, on shapes that differ and
    on an unknown name. A log-ratio of NaN makes the loss NaN.

    Example:
        >>> import torch
        >>> from gdpo import gdpo_loss
        >>> gdpo_loss(torch.zeros(1, 3), torch.tensor([[1.0, 0.5, 0.0]]), beta=0.1)
        tensor(-0.5000)
    """
    _check_name("link", link, Link)
    _check_name("pushes", pushes, Pushes)
    _check_tensor("log_ratios", log_ratios)
    _check_tensor("rewards", rewards)
    if not (isinstance(beta, Tensor) or (isinstance(beta, Real) and abs(beta) <= sys.float_info.max)):
        found = repr(beta) if isinstance(beta, float) else type(beta).__name__
        raise ArgumentError(key="beta", found=found, expected="a finite number")
    if log_ratios.shape != rewards.shape:
        found, expected = f"shape {tuple(log_ratios.shape)}", f"that of rewards, {tuple(rewards.shape)}"
        raise ArgumentError(key="log_ratios", found=found, expected=expected)
    dtype = torch.promote_types(log_ratios.dtype, torch.float32)
    scale = completion_weights(rewards, mask, advantage).to(dtype)
    weights = pair_weights(rewards, mask, pairs, by_gap=advantage == "gap").to(dtype)
    if mask is not None:
        log_ratios = log_ratios.masked_fill(~mask.bool(), 0.0)
    weighted = beta * scale * log_ratios.to(dtype)
    worse = weighted.detach() if pushes == "better" else weighted
    scores = weighted.unsqueeze(-1) - worse.unsqueeze(-2)
    linked = torch.sigmoid(scores) if link == "sigmoid" else functional.logsigmoid(scores)
    return -(weights * linked).sum(dim=(-2, -1)).mean()


def advantages(rewards: Tensor, mask: Tensor | None = None) -> Tensor:
    """A_i = (r_i - mean r) / std r in each group (B, G), population std; 0 where rewards are all equal, and padded."""
    rewards, mask = _checked(rewards, mask)
    # Rewards are measured from the group's lowest one in units of its range, so that neither a large offset nor a
    # large or small scale is squared, and padding adds 0. Halves, since two finite numbers may have an infinite range.
    half = rewards / 2
    lowest, highest = half.amin(-1, keepdim=True), half.amax(-1, keepdim=True)
    unit = (half - lowest) / (highest - lowest)
    size = mask.sum(-1, keepdim=True)
    centred = (unit - unit.sum(-1, keepdim=True) / size) * mask
    std = (centred.square().sum(-1, keepdim=True) / size).sqrt()
    return torch.where(reward_levels(rewards).amax(-1, keepdim=True) > 0, centred / std, 0.0)


def completion_weights(rewards: Tensor, mask: Tensor | None, advantage: Advantage) -> Tensor:
    """What multiplies each log-ratio, (B, G).

    "literal": 1 / A_i, the paper's division. It is negative below the group's mean, where minimising the loss
        raises a bad completion. At A_i = 0, where the division is undefined, the weight is 0.
    "unweighted": 1, the paper's ablation GDPO-A.
    "shifted": A_i - min A + 1, ours. It is at least 1 and grows with the reward, so every pair pushes its
        better completion up and its worse one down, the better one harder: outcomes outside the group fall.
    "reciprocal": 1 / (A_i - min A + 1), ours: the printed division by an advantage made positive. Each pair's
        worse completion goes down harder than its better one goes up: outcomes outside the group rise.
    "gap": 1, ours: here the advantage weighs the pairs instead, by A_i - A_j; see `pair_weights`.
    """
    _check_name("advantage", advantage, Advantage)
    if advantage in ("unweighted", "gap"):
        return torch.ones_like(_checked(rewards, mask)[0])
    z = advantages(rewards, mask)
    if advantage == "literal":
        return torch.where(z.abs() > ZERO_ADVANTAGE, 1 / z, 0.0)
    # The lowest z-score of the group is at most 0, as is that of its padding.
    positive = z - z.amin(-1, keepdim=True) + 1
    return 1 / positive if advantage == "reciprocal" else positive


def pair_weights(rewards: Tensor, mask: Tensor | None, pairs: Pairs, by_gap: bool = False) -> Tensor:
    """The weight of each pair (better, worse) in its group's loss, (B, G, G); they sum to 1, or to 0 without a pair.

    Only different rewards make a pair: equal ones do not order their completions. "all" weighs every pair alike.
    "adjacent" pairs each distinct reward with the next lower one and weighs every such step alike; where
    completions share a reward, their step is the mean over its pairs. The loss does not depend on how ties are
    sorted. Where no two rewards are equal the weights are the paper's 2/(G(G-1)) and 1/(G-1).

    At log-ratio 0 every pair pulls alike, so the steps of "adjacent" telescope: only the best and the worst
    completions move. A positive completion weight moves the best up and the worst down.

    `by_gap` makes each weight proportional to A_i - A_j. With "all", completion i then wins against the rest
    of its group in proportion to A_i, so that at log-ratio 0 the gradient has GRPO's direction.
    """
    _check_name("pairs", pairs, Pairs)
    rewards, mask = _checked(rewards, mask)
    level = reward_levels(rewards)
    steps = level.unsqueeze(-1) - level.unsqueeze(-2)
    both = mask.unsqueeze(-1) & mask.unsqueeze(-2)
    if pairs == "all":
        weights = (both & (steps > 0)).to(rewards.dtype)
    else:
        # Each completion's share of a step: 1 / how many have its reward.
        share = 1 / (both & (steps == 0)).sum(-1).clamp(min=1).to(rewards.dtype)
        weights = (both & (steps == 1)) * share.unsqueeze(-1) * share.unsqueeze(-2)
    if by_gap:
        z = advantages(rewards, mask)
        weights = weights * (z.unsqueeze(-1) - z.unsqueeze(-2))
    total = weights.sum(dim=(-2, -1), keepdim=True)
    return weights / torch.where(total > 0, total, 1.0)


def reward_levels(rewards: Tensor) -> Tensor:
    """Each reward's place among the distinct rewards of its group, (B, G) int, 0 the lowest.

    A new level begins where a sorted reward exceeds the one before it by more than rounding. Rounding is float32's,
    whatever the rewards' own dtype, so that the groups that are trained on are those that have a pair in the loss.
    """
    limits = torch.finfo(rewards.dtype)
    largest = rewards.abs().amax(-1, keepdim=True).clamp(min=limits.tiny / limits.eps)
    if rewards.dtype == torch.float64:
        # By a power of two, which rounds nothing, so that any float64 is a float32's size.
        _, exponent = torch.frexp(largest)
        rewards, largest = torch.ldexp(rewards, -exponent).float(), torch.ldexp(largest, -exponent).float()
    ordered, order = rewards.sort(-1)
    above = ordered.diff(dim=-1) > TIE_ROUNDINGS * torch.finfo(rewards.dtype).eps * largest
    level = functional.pad(above, (1, 0)).cumsum(-1)
    return torch.empty_like(level).scatter_(-1, order, level)


def _checked(rewards: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Finite rewards, (B, G), at least float32, and the mask. Padding takes the group's lowest reward, 0 in an empty
    group, so that it changes neither a group's range nor its levels."""
    _check_tensor("rewards", rewards)
    if mask is not None:
        _check_tensor("mask", mask)
    mask = torch.ones_like(rewards, dtype=torch.bool) if mask is None else mask.bool()
    if mask.shape != rewards.shape:
        found, expected = f"shape {tuple(mask.shape)}", f"that of rewards, {tuple(rewards.shape)}"
        raise ArgumentError(key="mask", found=found, expected=expected)
    wrong = mask & ~rewards.isfinite()
    if wrong.any():
        place = wrong.nonzero()[0].tolist()
        key = f"rewards, group {', '.join(map(str, place[:-1]))}, completion {place[-1]}"
        raise ArgumentError(key=key, found=rewards[tuple(place)].item(), expected="a finite number")
    rewards = rewards.detach().to(torch.promote_types(rewards.dtype, torch.float32))
    lowest = rewards.masked_fill(~mask, torch.inf).amin(-1, keepdim=True)
    return torch.where(mask, rewards, lowest.masked_fill(lowest.isinf(), 0.0)), mask


def _check_tensor(argument: str, found: object) -> None:
    if not isinstance(found, Tensor) or found.is_complex():
        what = str(found.dtype) if isinstance(found, Tensor) else type(found).__name__
        raise ArgumentError(key=argument, found=what, expected="a torch.Tensor of real numbers, (B, G)")
    if found.ndim == 0 or found.numel() == 0:
        found = f"shape {tuple(found.shape)}"
        raise ArgumentError(key=argument, found=found, expected="(B, G), with at least one completion")


def _check_name(argument: str, found: str, known: object) -> None:
    if found not in get_args(known):
        raise ArgumentError(key=argument, found=repr(found), expected=f"one of {', '.join(get_args(known))}")
