"""The reward's parts, by hand-worked numbers."""

from __future__ import annotations

import pytest

from gdpo.schema import Reward
from gdpo.teach.reward import format_score, length_score, reward

SETTINGS = Reward(correctness=1.0, format=0.5, length=0.5, knee=10, limit=20, think="optional")


@pytest.mark.parametrize(
    ("text", "optional", "required"),
    [
        ("<think> a </think> 7", 1, 1),
        ("7", 1, 0),
        ("<think> a </think>", 0, 0),
        ("<think> a", 0, 0),
        ("a </think> 7", 0, 0),
        ("</think> a <think> 7", 0, 0),
        ("<think> a </think> <think> b </think> 7", 0, 0),
        ("so <think> a </think> 7", 1, 0),
        ("", 0, 0),
    ],
)
def test_format_wants_one_think_block_and_then_an_answer(text, optional, required):
    assert format_score(text, "optional") == optional
    assert format_score(text, "required") == required


def test_length_is_full_up_to_the_knee_and_falls_linearly_to_zero():
    assert [length_score(n, 10, 20) for n in (0, 10, 12, 15, 20, 99)] == [1.0, 1.0, 0.8, 0.5, 0.0, 0.0]


def test_the_parts_add_up_by_hand():
    """Right, well formed, 15 tokens: 1 + 0.5 + 0.5 * 0.5 = 1.75. Wrong: 0.75. No answer: nothing, however short."""
    assert reward("right", "<think> a </think> 7", 15, SETTINGS).total == 1.75
    assert reward("wrong", "<think> a </think> 8", 15, SETTINGS).total == 0.75
    assert reward("ungradable", "<think> a", 3, SETTINGS).total == 0.0


def test_rewards_span_zero_to_two():
    assert reward("right", "7", 1, SETTINGS).total == 2.0
    with pytest.raises(ValueError, match="= 2"):
        Reward(correctness=1.0, format=1.0, length=0.5, knee=10, limit=20, think="optional")
