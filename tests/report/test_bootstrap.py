"""Redraws, intervals, p-values and Holm's adjustment, by numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from gdpo.report.bootstrap import bootstrap_means, holm, interval, p_value


def width(draws: np.ndarray) -> float:
    low, high = interval(draws)
    return high - low


def test_interval_of_a_fair_coin_matches_the_normal_approximation():
    """One seed, 400 items, half right: 0.5 plus or minus about 1.96 * sqrt(0.25 / 400) = 0.049."""
    draws = bootstrap_means(np.tile([0.0, 1.0], 200)[None], 4000, seed=0, name="coin")
    assert draws.mean() == pytest.approx(0.5, abs=0.005)
    assert interval(draws) == pytest.approx((0.451, 0.549), abs=0.004)


def test_seeds_and_items_both_vary():
    """Seeds right on nothing and on everything: the mean is the share of the second seed in two draws: 0, 0.5 or 1."""
    draws = bootstrap_means(np.array([np.zeros(10), np.ones(10)]), 4000, 0, "x")
    values, counts = np.unique(draws, return_counts=True)
    assert values.tolist() == [0.0, 0.5, 1.0]
    assert counts / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_seeds_that_disagree_widen_the_interval():
    agree = np.ones((3, 50)) * np.tile([0.0, 1.0], 25)
    disagree = np.array([np.zeros(50), np.tile([0.0, 1.0], 25), np.ones(50)])
    assert width(bootstrap_means(disagree, 2000, 0, "x")) > 2 * width(bootstrap_means(agree, 2000, 0, "x"))


def test_bootstrap_draws_are_paired_and_repeatable():
    outcomes = np.random.default_rng(1).integers(0, 2, (3, 40)).astype(float)
    assert np.array_equal(bootstrap_means(outcomes, 1500, 0, "b"), bootstrap_means(outcomes, 1500, 0, "b"))
    assert np.allclose(bootstrap_means(1 - outcomes, 1500, 0, "b"), 1 - bootstrap_means(outcomes, 1500, 0, "b"))
    assert not np.array_equal(bootstrap_means(outcomes, 1500, 0, "b"), bootstrap_means(outcomes, 1500, 0, "c"))


def test_item_draws_do_not_depend_on_the_number_of_seeds():
    """Three seeds that all equal the one of another row differ from it by exactly nothing in every redraw."""
    one = np.random.default_rng(2).integers(0, 2, (1, 40)).astype(float)
    assert np.allclose(
        bootstrap_means(np.repeat(one, 3, axis=0), 1200, 0, "b"), bootstrap_means(one, 1200, 0, "b"), atol=1e-12
    )


def test_seed_draws_are_shared_by_benchmarks():
    """Where a seed has all or nothing right, only the seeds vary, and two benchmarks vary together."""
    seeds = np.repeat([[0.0], [1.0]], 10, axis=1)
    assert np.array_equal(bootstrap_means(seeds, 500, 0, "a"), bootstrap_means(seeds, 500, 0, "b"))


def test_the_interval_is_the_central_95_percent():
    assert interval(np.arange(1001.0)) == pytest.approx((25, 975))


def test_p_values_count_the_rarer_side():
    """Of 99 draws 4 are at most 0: 2 * (4 + 1) / 100. None on a side: 2 / 100. All zero: on both sides, 1."""
    assert p_value(np.array([-1.0] * 3 + [0.0] + [1.0] * 95)) == pytest.approx(0.1)
    assert p_value(np.array([1.0] * 3 + [-1.0] * 96)) == pytest.approx(2 * 4 / 100)
    assert p_value(np.ones(99)) == pytest.approx(0.02)
    assert p_value(np.zeros(99)) == 1.0
    assert p_value(np.full(99, 1e-15)) == 1.0


def test_holm_by_hand():
    """Sorted 0.01, 0.02, 0.03, 0.5, times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.5; none below the one before it."""
    assert holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([0.03, 0.02]) == pytest.approx([0.04, 0.04])
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
