"""What a group's rewards can rank: how many levels it has, and which neighbours differ in length alone."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

from gdpo.core.records import Group, Parts
from gdpo.trainer.ties import levels

SAME = 1e-9  # two parts closer than this are equal


def reward_levels(group: Group) -> list[list[int]]:
    """The indices of a group's completions by reward, one list a distinct reward, the lowest first.

    Rewards are equal by the trainer's rule (gdpo.trainer.ties).
    """
    places: dict[int, list[int]] = {}
    for index, level in enumerate(levels(group.rewards)):
        places.setdefault(level, []).append(index)
    return [places[level] for level in sorted(places)]


def adjacent_pairs(group: Group) -> list[tuple[Parts, Parts]]:
    """The parts of every pair of completions on neighbouring levels, the pairs of eq. 13; needs graded parts."""
    neighbours = itertools.pairwise(reward_levels(group))
    return [(group.parts[i], group.parts[j]) for lower, upper in neighbours for i in upper for j in lower]


def differ_in_length_alone(pair: tuple[Parts, Parts]) -> bool:
    """Whether correctness, partial credit and format of two rewards are equal, so that only length tells them apart."""
    one, other = pair
    kept = ("correctness", "partial", "format")
    return all(abs(getattr(one, name) - getattr(other, name)) <= SAME for name in kept)


def describe(groups: Sequence[Group]) -> dict[str, float]:
    """Of the groups with two different rewards: how many, the median of levels, and the share of length-only pairs.

    That share is of each group's adjacent pairs, averaged over groups, as each group counts one in the loss.
    """
    levels_of = [(group, len(reward_levels(group))) for group in groups]
    trained = [(group, count) for group, count in levels_of if count > 1]
    shares = [statistics.mean(map(differ_in_length_alone, adjacent_pairs(g))) for g, _ in trained if g.parts]
    return {
        "groups": len(groups),
        "with_contrast": len(trained),
        "median_levels": statistics.median(count for _, count in trained) if trained else 0,
        "length_alone": statistics.mean(shares) if shares else 0.0,
    }
