"""Gain, forgetting and the columns that count, by hand-worked numbers."""

from __future__ import annotations

import numpy as np
import pytest

from gdpo.core.errors import UserError
from gdpo.report.trial.effects import points, row_by_rule, within_chance
from tests.report.trial.made_worlds import world

SFT = ("narrow", "sft")


def test_gain_and_forgetting():
    """add 5 -> 9 of ten: +40. Untaught 8, 8, 8 -> 4, 8, 6: a mean of -20."""
    made = world({(*SFT, "0.001"): (9, 2, 4, 8, 6, 5)})
    row = made.row(SFT, "0.001", 0)
    assert made.gain(row, "narrow") == pytest.approx(40)
    assert made.forgetting(row) == pytest.approx(20)
    assert made.forgetting(row, without="one") == pytest.approx(10)
    assert made.average(row, ("taught",)) == pytest.approx((40 - 30) / 2)


def test_gain_weighs_skills_by_share():
    """A quarter of the set is `add` (+40), three quarters `take` (-30)."""
    made = world({(*SFT, "0.001"): (9, 2, 8, 8, 8, 5)}, shares={"narrow": {"add": 0.25, "take": 0.75}})
    assert made.gain(made.row(SFT, "0.001", 0), "narrow") == pytest.approx(0.25 * 40 - 0.75 * 30)


def test_columns_without_room_do_not_count():
    """Ten of ten is above 97%; none of ten is within chance."""
    made = world({(*SFT, "0.001"): (9, 2, 4, 0, 0, 5)}, before=(5, 5, 8, 10, 0, 5))
    assert made.kept == ["add", "take", "one", "form"]
    assert not made.usable
    assert made.forgetting(made.row(SFT, "0.001", 0)) == pytest.approx(40)


def test_within_chance_is_two_standard_errors():
    """Of 100 items at chance 0.5 one standard error is 0.05."""
    assert within_chance(0.60, 0.5, 100)
    assert not within_chance(0.61, 0.5, 100)


def test_rates_ascend_as_numbers():
    rates = ("0.001", "2e-05", "0.0003")
    made = world({(*SFT, rate): (5 + place, 5, 8, 8, 8 - place, 5) for place, rate in enumerate(rates)})
    assert made.rates(SFT) == ["2e-05", "0.0003", "0.001"]
    expected = [[[10, 10 / 3], [20, 20 / 3], [0, 0]]]
    np.testing.assert_allclose(points([made], SFT), expected, atol=1e-9)


def test_points_are_of_the_rates_that_every_world_has():
    one = world({(*SFT, rate): (6 + place, 5, 8, 8, 8, 5) for place, rate in enumerate(("2e-05", "5e-05", "0.001"))})
    other = world({(*SFT, rate): (6, 5, 8, 8, 8, 5) for rate in ("2e-05", "4e-05", "0.001")}, seed=2)
    np.testing.assert_allclose(points([one, other], SFT)[..., 0], [[10, 30], [10, 10]])


def test_rules_choose_a_rate_by_validation_items():
    """The set's own skill prefers the larger rate; the mean of all five columns but the format's the smaller."""
    made = world({(*SFT, "0.001"): (8, 5, 2, 2, 2, 10), (*SFT, "2e-05"): (6, 5, 8, 8, 8, 0)})
    assert row_by_rule(made, SFT, "own") == made.row(SFT, "0.001", 0)
    assert row_by_rule(made, SFT, "best") == made.row(SFT, "2e-05", 0)


def test_of_rates_that_validate_alike_the_smaller_is_chosen():
    made = world({(*SFT, "0.001"): (8, 5, 2, 2, 2, 5), (*SFT, "2e-05"): (8, 5, 2, 2, 2, 5)})
    assert row_by_rule(made, SFT, "own") == row_by_rule(made, SFT, "best") == made.row(SFT, "2e-05", 0)


def test_missing_run_is_named():
    made = world({(*SFT, "0.001"): (9, 2, 4, 8, 6, 5)})
    with pytest.raises(UserError, match=r"world 1, found no run s/narrow/sft/0\.1/0, expected one"):
        made.row(SFT, "0.1", 0)
