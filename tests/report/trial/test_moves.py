"""Which runs moved, by hand-worked counts."""

from __future__ import annotations

import pytest

from gdpo.report.trial.moves import Move, move, rows
from tests.report.trial.made_worlds import world

SFT = ("narrow", "sft")


def test_sign_test_is_exact():
    """Of seven changed items one is lost: 2 (1 + 7) / 2^7."""
    assert Move(won=6, lost=1, items=50).p == pytest.approx(2 * 8 / 2**7)
    assert Move(won=0, lost=0, items=50).p == 1


def test_only_the_sets_own_skills_count():
    """Of `add` four more are right; what else changed is not the set's."""
    made = world({(*SFT, "0.001"): (9, 2, 4, 8, 6, 5)})
    assert move(made, made.row(SFT, "0.001", 0), "narrow") == Move(won=4, lost=0, items=10)


def test_rows_count_runs_of_all_worlds():
    """At the smaller rate nothing changes; at the larger five items are lost, which is not sure: 2 / 2^5."""
    cells = {(*SFT, "0.001"): (5, 5, 8, 8, 8, 5), (*SFT, "0.01"): (0, 5, 8, 8, 8, 5)}
    still, lost = rows([world(cells, seed) for seed in range(3)])
    assert (still["runs"], still["changed"], still["moved"]) == (3, 0, 0)
    assert (lost["runs"], lost["changed"], lost["median_items"], lost["moved"]) == (3, 3, "5", 0)
    both = world({(*SFT, "0.01"): (0, 0, 8, 8, 8, 5)}, shares={"narrow": {"add": 0.5, "take": 0.5}})
    assert [(row["moved"], row["up"], row["down"]) for row in rows([both])] == [(1, 0, 1)]  # ten lost: 2 / 2^10
