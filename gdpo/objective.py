"""The GDPO loss (paper, section GDPO; appendix, eq. 12 and 13): pure tensors, no model, no files.

A group is G completions of one prompt with rewards r_i and log-ratios
l_i = log pi(y_i|q) - log pi_ref(y_i|q). A pair (i, j) of it, with r_i > r_j, has the score
d_ij = beta * (w_i * l_i - w_j * l_j), and the loss is minus the mean over pairs of sigmoid(d_ij). `pairs`,
`link` and `advantage` choose what the paper prints or leaves open, each independently of the others.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Pairs = Literal["adjacent", "all"]
Link = Literal["sigmoid", "logsigmoid"]
Advantage = Literal["literal", "unweighted", "shifted", "reciprocal", "gap"]

# Rounding in float32: a z-score below the first, a std below the second times the rewards' size, are zero.
ZERO_ADVANTAGE = 1e-4
ZERO_STD = 1e-6


def gdpo_loss(
    log_ratios: Tensor,
    rewards: Tensor,
    mask: Tensor | None = None,
    *,
    beta: float,
    pairs: Pairs = "adjacent",
    link: Link = "sigmoid",
    advantage: Advantage = "literal",
) -> Tensor:
    """The mean GDPO loss of B groups, a scalar: in [-1, 0] for the sigmoid link, above 0 for the log-sigmoid.

    Args:
        log_ratios: (B, G), nats.
        rewards: (B, G), any scale; only their order and their z-scores matter.
        mask: (B, G) bool, true where a completion exists; absent, every one does.
        beta: the inverse temperature, 0.1 in the paper.
        pairs: "adjacent" is eq. 13, neighbours in reward; "all" is eq. 12; see `pair_weights`.
        link: "sigmoid" as printed, or DPO's "logsigmoid".
        advantage: how A_i weighs l_i; see `completion_weights`.

    A group without two different rewards adds 0 to the mean and has no gradient.
    """
    weighted = beta * completion_weights(rewards, mask, advantage) * log_ratios
    scores = weighted.unsqueeze(-1) - weighted.unsqueeze(-2)
    linked = {"sigmoid": torch.sigmoid, "logsigmoid": functional.logsigmoid}[link](scores)
    weights = pair_weights(rewards, mask, pairs, by_gap=advantage == "gap")
    return -(weights * linked).sum(dim=(-2, -1)).mean()


def advantages(rewards: Tensor, mask: Tensor | None = None) -> Tensor:
    """A_i = (r_i - mean r) / std r in each group (B, G), population std; 0 where rewards are all equal."""
    mask = _mask(rewards, mask)
    size = mask.sum(-1, keepdim=True).clamp(min=1)
    centred = (rewards - (rewards * mask).sum(-1, keepdim=True) / size) * mask
    std = (centred.square().sum(-1, keepdim=True) / size).sqrt()
    return torch.where(std > ZERO_STD * rewards.abs().amax(-1, keepdim=True), centred / std, 0.0)


def completion_weights(rewards: Tensor, mask: Tensor | None, advantage: Advantage) -> Tensor:
    """What multiplies each log-ratio, (B, G).

    "literal": 1 / A_i, the paper's division. It is negative below the group's mean, where minimising the loss
        raises a bad completion. At A_i = 0, where the division is undefined, the weight is 0.
    "unweighted": 1, the paper's ablation GDPO-A.
    "shifted": A_i - min A + 1, ours. It is at least 1 and grows with the reward, so every pair pushes its
        better completion up and its worse one down, the better one harder: probability stays in the group.
    "reciprocal": 1 / (A_i - min A + 1), ours: the printed division by an advantage made positive. Each pair's
        worse completion goes down harder than its better one goes up: probability leaves the group.
    "gap": 1, ours: here the advantage weighs the pairs instead, by A_i - A_j; see `pair_weights`.
    """
    if advantage in ("unweighted", "gap"):
        return torch.ones_like(rewards)
    z = advantages(rewards, mask)
    if advantage == "literal":
        return torch.where(z.abs() > ZERO_ADVANTAGE, 1 / z, 0.0)
    lowest = z.masked_fill(~_mask(rewards, mask), torch.inf).amin(-1, keepdim=True)
    positive = z - lowest + 1
    return 1 / positive if advantage == "reciprocal" else positive


def pair_weights(rewards: Tensor, mask: Tensor | None, pairs: Pairs, by_gap: bool = False) -> Tensor:
    """The weight of each pair (better, worse) in its group's loss, (B, G, G); a group's weights sum to 1.

    Only different rewards make a pair: equal ones say nothing about their completions' order. "all" weighs
    every pair alike. "adjacent" pairs each distinct reward with the next lower one, every such step alike;
    where completions share a reward, their step is the mean over its pairs. The loss does not depend on how
    ties are sorted, and where no two rewards are equal the weights are the paper's 2/(G(G-1)) and 1/(G-1).

    At log-ratio 0 every pair pulls alike, so the steps of "adjacent" telescope: only the best and the worst
    completions move. A positive completion weight moves the best up and the worst down.

    `by_gap` makes each weight proportional to A_i - A_j. With "all", completion i then wins against the rest
    of its group in proportion to A_i, so that at log-ratio 0 the gradient has GRPO's direction.
    """
    mask = _mask(rewards, mask)
    better = (rewards.unsqueeze(-1) > rewards.unsqueeze(-2)) & mask.unsqueeze(-1) & mask.unsqueeze(-2)
    weights = better.to(rewards.dtype)
    if pairs == "adjacent":
        # j is one step below i where no completion lies strictly between them.
        between = torch.matmul(weights, weights) > 0
        ties = ((rewards.unsqueeze(-1) == rewards.unsqueeze(-2)) & mask.unsqueeze(-2)).sum(-1).clamp(min=1)
        weights = (better & ~between) / (ties.unsqueeze(-1) * ties.unsqueeze(-2)).to(rewards.dtype)
    if by_gap:
        z = advantages(rewards, mask)
        weights = weights * (z.unsqueeze(-1) - z.unsqueeze(-2))
    return weights / weights.sum(dim=(-2, -1), keepdim=True).clamp(min=torch.finfo(rewards.dtype).tiny)


def _mask(rewards: Tensor, mask: Tensor | None) -> Tensor:
    return torch.ones_like(rewards, dtype=torch.bool) if mask is None else mask
