"""What a group's rewards can rank, by hand."""

from __future__ import annotations

import pytest

from gdpo.core.records import Group, Parts
from gdpo.teach.levels import adjacent_pairs, describe, reward_levels


def part(correctness: float, partial: float, length: float) -> Parts:
    total = correctness + partial + length
    verdict = "right" if correctness else "wrong"
    return Parts(verdict=verdict, correctness=correctness, partial=partial, format=0.0, length=length, total=total)


def group(*parts: Parts) -> Group:
    rewards = [each.total for each in parts]
    return Group(id="q", domain="math", prompt=[], completions=["a"] * len(parts), rewards=rewards, parts=list(parts))


def test_levels_join_equal_rewards():
    """0.3 is reached as 0.1 + 0.2 and as 0.3 + 0: one level, whatever the rounding."""
    found = reward_levels(group(part(1, 0, 0), part(0, 0.1, 0.2), part(0, 0.3, 0)))
    assert found == [[2, 1], [0]] or found == [[1, 2], [0]]


def test_half_of_the_pairs_differ_in_length_alone():
    """Levels: right and short, right and long, wrong. Two steps, the first of length alone."""
    short, long, wrong = part(1, 0.5, 0.3), part(1, 0.5, 0.1), part(0, 0.2, 0.3)
    ranked = group(short, long, wrong)
    assert len(adjacent_pairs(ranked)) == 2
    found = describe([ranked, group(short, short)])
    assert found == {"groups": 2, "with_contrast": 1, "median_levels": 3, "length_alone": pytest.approx(0.5)}
