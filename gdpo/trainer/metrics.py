"""What GDPOTrainer logs of its batches: sums over the batches since the last log, and the means that they give."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gdpo.trainer.objective import Pairs, pair_weights


@torch.no_grad()
def batch_sums(
    log_ratios: Tensor, rewards: Tensor, mask: Tensor, tokens: dict[str, int], *, beta: float, pairs: Pairs
) -> dict[str, Any]:
    """A batch's sums over its groups or completions, by name; nothing here waits for the device.

    `log_ratios`, `rewards` and `mask` are (B, G), `tokens` as `GroupCollator` counts them.
    """
    log_ratios = log_ratios.masked_fill(~mask, 0.0)
    weights = pair_weights(rewards, mask, pairs)
    gaps = log_ratios.unsqueeze(-1) - log_ratios.unsqueeze(-2)
    best = rewards.masked_fill(~mask, -math.inf).argmax(-1, keepdim=True)
    worst = rewards.masked_fill(~mask, math.inf).argmin(-1, keepdim=True)
    best_ratio, worst_ratio = log_ratios.gather(-1, best), log_ratios.gather(-1, worst)
    between = mask & (rewards < rewards.gather(-1, best)) & (rewards > rewards.gather(-1, worst))
    return {
        "rewards/accuracies": (weights * (gaps > 0)).sum(),
        "rewards/margins": beta * (weights * gaps).sum(),
        "log_ratios/best": best_ratio.sum(),
        "log_ratios/worst": worst_ratio.sum(),
        "log_ratios/best_falls": (best_ratio < 0).sum(),
        "log_ratios/worst_rises": (worst_ratio > 0).sum(),
        "rest": (log_ratios * between).sum(),
        "rest_completions": between.sum(),
        "kl": (0.5 * log_ratios.square() * mask).sum(),
        "completions": mask.sum(),
        "groups": mask.any(-1).sum(),
        **tokens,
    }


def means(sums: dict[str, float]) -> dict[str, float]:
    """What is logged of sums: means over groups, `kl` over completions, and the padding's share of the tokens."""
    by_group = {name: sums[name] / sums["groups"] for name in sums if "/" in name or name == "aux_loss"}
    return by_group | {
        "kl": sums["kl"] / sums["completions"],
        "padding_share": 1 - sums["real"] / sums["processed"],
        # The completions between the best and the worst reward, which groups of two levels do not have.
        **({"log_ratios/rest": sums["rest"] / sums["rest_completions"]} if sums["rest_completions"] else {}),
    }
