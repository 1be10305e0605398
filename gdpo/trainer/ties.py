"""Which rewards of a group count as equal, for the data as for the loss (`gdpo.trainer.objective.reward_levels`).

Only different rewards make a pair (paper, eq. 12 and 13), so a group without two of them trains nothing and is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.utils import logging

from gdpo.trainer.dataset import DataError
from gdpo.trainer.objective import reward_levels

logger = logging.get_logger(__name__)

# A relative difference above this is more than the rounding of a sum of float64 numbers.
ROUNDED_SUM = 1e-12
OFFSET_HINT = (
    "rewards that differ by less than 1e-6 of their group's largest, or by less than 1e-37, count as equal: subtract "
    "what they share, or scale them"
)


def drop_tied_groups(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The groups that make a pair: those with two different rewards.

    Warns of the groups where rewards differ and count as equal, with their number. Raises DataError where no group is
    left.
    """
    found = [levels(row["rewards"]) for row in rows]
    informative = [row for row, level in zip(rows, found, strict=True) if max(level, default=0) > 0]
    near = sum(_has_near_tie(row["rewards"], level) for row, level in zip(rows, found, strict=True))
    if not informative:
        expected = "a group with two different rewards"
        raise DataError(key="rewards", found="none", expected=expected, hint=OFFSET_HINT if near else None)
    if near:
        logger.warning(f"{near} of {len(rows)} groups: {OFFSET_HINT}")
    return informative


def best_and_worst(rewards: Sequence[float]) -> tuple[int, int] | None:
    """The places of the first of the best and the first of the worst completions; None where rewards are all equal."""
    level = levels(rewards)
    best, worst = level.index(max(level)), level.index(min(level))
    return None if best == worst else (best, worst)


def levels(rewards: Sequence[float]) -> list[int]:
    """Each reward's place among the distinct ones of its group, by the float32 numbers that the loss sees.

    Where one is no finite float32, all count as different: `gdpo.trainer.dataset.check_group` refuses it.
    """
    if len(set(rewards)) < 2:
        return [0] * len(rewards)
    single = torch.tensor([float(reward) for reward in rewards], dtype=torch.float64).float()
    if not single.isfinite().all():
        return list(range(len(rewards)))
    return [int(level) for level in reward_levels(single[None])[0]]


def _has_near_tie(rewards: Sequence[float], levels: Sequence[int]) -> bool:
    """Whether two rewards that count as equal differ by more than sums of float64 numbers round."""
    extremes: dict[int, tuple[float, float]] = {}
    for level, reward in zip(levels, rewards, strict=True):
        low, high = extremes.get(level, (reward, reward))
        extremes[level] = min(low, reward), max(high, reward)
    largest = max(map(abs, rewards), default=0.0)
    return any(high - low > ROUNDED_SUM * largest for low, high in extremes.values())
