"""Rows of samples files, asked once or several times, and the scores that follow from them, by hand."""

from __future__ import annotations

import pytest

from gdpo.evaluate.samples import outputs, score, share, share_right, verdicts
from gdpo.evaluate.tasks.items import pass_at_1

ONCE = [
    {"id": f"q{n}", "output": "7", "verdict": verdict} for n, verdict in enumerate(["right", "wrong", "ungradable"])
]
OFTEN = [
    {"id": "a", "outputs": ["1", "2", "", "1"], "verdicts": ["right", "wrong", "ungradable", "right"]},
    {"id": "b", "outputs": ["3", "4", "5", "6"], "verdicts": ["wrong", "wrong", "wrong", "right"]},
]


def test_a_row_asked_once_is_one_sample():
    assert [share_right(row) for row in ONCE] == [1.0, 0.0, 0.0]
    assert outputs(ONCE[0]) == ["7"]
    assert verdicts(ONCE[2]) == ["ungradable"]


def test_a_row_asked_often_has_the_share_of_its_samples():
    """Of four samples two, then one are right, and one, then none ungradable."""
    assert [share_right(row) for row in OFTEN] == [0.5, 0.25]
    assert [share(row, "ungradable") for row in OFTEN] == [0.25, 0.0]
    assert outputs(OFTEN[0]) == ["1", "2", "", "1"]


def test_scores():
    """One of three right, one ungradable. Sampled: (1/2 + 1/4) / 2 = 0.375 right, (1/4 + 0) / 2 = 0.125 ungradable."""
    assert score(ONCE) == {"score": 1 / 3, "ungradable": 1 / 3, "n": 3}
    assert score(iter(OFTEN)) == {"score": 0.375, "ungradable": 0.125, "n": 2, "samples": 4}


def test_pass_at_1_counts_each_item_once():
    """(1/2 + 1/1) / 2, where counting samples would give 2/3."""
    assert pass_at_1([[1.0, 0.0], [1.0]]) == pytest.approx(0.75)
