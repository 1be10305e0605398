"""Items lost and won by training, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from gdpo.report.transitions import Transitions, counted, knows, transferability


def rows(text):
    """One row a letter: r right, w wrong, u ungradable."""
    names = {"r": "right", "w": "wrong", "u": "ungradable"}
    return [{"id": str(place), "output": "", "verdict": names[letter]} for place, letter in enumerate(text)]


def test_each_item_is_counted_once():
    """Before rrrrrww, after rwuwurr: items 1 to 4 are lost, 5 and 6 won. The answer to item 3 was cut off."""
    found = counted(rows("rrrrrww"), rows("rwuwurr"), cut={3, 5})
    assert found == Transitions(n=7, right_before=5, right_after=3, won=2, wrong=1, unparseable=2, cut=1)
    assert found.lost == 4
    assert found.right_before - found.lost + found.won == found.right_after


def test_sampled_items_count_by_half_of_their_answers():
    before = [{"id": "a", "outputs": ["", ""], "verdicts": ["right", "wrong"]}]
    after = [{"id": "a", "outputs": ["", "", ""], "verdicts": ["right", "ungradable", "ungradable"]}]
    assert counted(before, after) == Transitions(1, 1, 0, won=0, wrong=0, unparseable=1, cut=0)


def test_runs_of_different_items_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        counted(rows("rr"), rows("r"))


def test_knowledge_behind_a_score():
    """A coin's score of 0.5 knows nothing, 0.75 half; below chance is nothing."""
    assert [knows(score, 0.5) for score in (0.4, 0.5, 0.75, 1.0)] == [0.0, 0.0, 0.5, 1.0]
    assert knows(0.3, 0.0) == 0.3


def test_chance_alone_is_taken_off():
    """100 items, half right before and after, two answers: both guess all, and lose 100 * 0.5 * 0.5 = 25 by chance.
    With 75 right before, half are known then: 50 can be guessed by both, 12.5 are lost by chance."""
    guessers = Transitions(100, 50, 50, won=25, wrong=25, unparseable=0, cut=0)
    assert (guessers.by_chance(0.5), guessers.adjusted_lost(0.5), guessers.adjusted_won(0.5)) == (25.0, 0.0, 0.0)
    knowing = Transitions(100, 75, 50, won=10, wrong=30, unparseable=5, cut=0)
    assert (knowing.by_chance(0.5), knowing.adjusted_lost(0.5), knowing.adjusted_won(0.5)) == (12.5, 22.5, 0.0)
    assert guessers.by_chance(0.0) == 0.0


def test_simulated_guessers_lose_nothing_beside_chance():
    """Two models know the same 40 of 100 items and guess the rest with 1 in 4: on average 60 / 4 * 3 / 4 are lost."""

    rng = np.random.default_rng(0)
    adjusted = []
    for _ in range(300):
        before, after = (["r"] * 40 + list(np.where(rng.uniform(size=60) < 0.25, "r", "w")) for _ in range(2))
        found = counted(rows("".join(before)), rows("".join(after)))
        adjusted.append(found.lost - found.by_chance(0.25))
    assert np.mean(adjusted) == pytest.approx(0, abs=0.8)


def test_transferability_by_hand():
    """Math +20% and elsewhere -5% and -15%: -10% / 20% = -0.5. Nothing gained, or nothing else: no index."""
    assert transferability({"math": 0.2}, {"a": -0.05, "b": -0.15}) == pytest.approx(-0.5)
    assert transferability({"math": 0.0}, {"a": 0.1}) is None
    assert transferability({}, {"a": 0.1}) is None
    assert transferability({"math": 0.1}, {}) is None
