"""Statistics over worlds: by hand, and by simulation of what they promise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from gdpo.core.errors import ArgumentError
from gdpo.report import world_statistics as ws
from gdpo.report.bootstrap import holm

WORLDS = 12


# --- means, intervals and tests


def test_t_interval_by_hand():
    """1, 2, 3: sd 1, standard error 1/sqrt 3 = 0.5774; t(2) at 97.5% is 4.3027: 2 +- 2.4842. t = 3.4641: p = 0.0742."""
    found = ws.t_estimate([1, 2, 3])
    assert (found.mean, found.worlds) == (2, 3)
    assert (found.low, found.high, found.p) == pytest.approx((-0.4842, 4.4842, 0.0742), abs=1e-4)


def test_t_interval_of_differences_without_spread():
    assert ws.t_estimate([0.5, 0.5]) == ws.Estimate(0.5, 0.5, 0.5, 0.0, 2)
    assert ws.t_estimate([0.0, 0.0]).p == 1.0
    assert ws.t_estimate([7.0]) == ws.Estimate(7.0, -math.inf, math.inf, 1.0, 1)


def test_sign_flips_by_hand():
    """1, 2, 3: of the 8 patterns only all plus and all minus sum to 6. With 3, 1, -1 the absolute sums are 3, 5, 1, 3
    and the same again: 3 is reached by three of four."""
    assert ws.sign_flip_p([1, 2, 3]) == 0.25
    assert ws.sign_flip_p([3, 1, -1]) == 0.75
    assert ws.sign_flip_p(range(1, WORLDS + 1)) == 2 / 2**WORLDS


def test_sign_flips_of_many_worlds_are_sampled():
    """20 differences of 1: only 2 of 2^20 patterns are as large; the observed one counts itself."""
    assert ws.sign_flip_p([1.0] * 20) == pytest.approx(1 / (ws.SIGN_DRAWS + 1), abs=3e-5)
    drawn = np.random.default_rng(5).normal(0.3, size=17)
    exact = np.mean([abs(np.dot(s, drawn)) >= abs(drawn.sum()) for s in itertools.product((1, -1), repeat=17)])
    assert ws.sign_flip_p(drawn) == pytest.approx(exact, abs=0.005)


def test_false_discovery_rate_by_hand():
    """0.01 * 3 / 1, 0.03 * 3 / 2 = 0.045 and 0.04 * 3 / 3: no adjusted one may exceed a later one."""
    assert ws.benjamini_hochberg([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])
    assert ws.benjamini_hochberg([0.9, 0.8]) == pytest.approx([0.9, 0.9])
    assert ws.benjamini_hochberg([]) == []
    drawn = np.random.default_rng(1).uniform(size=50)
    assert ws.benjamini_hochberg(list(drawn)) == pytest.approx(stats.false_discovery_control(drawn))


def test_equivalence_by_hand():
    """-1, 0, 1 within +-5: mean 0, standard error 0.5774, t = 8.66 with 2 degrees of freedom, one-sided p = 0.00654."""
    assert ws.equivalence_p([-1, 0, 1], 5) == pytest.approx(0.00654, abs=1e-5)
    assert ws.equivalence_p([-1, 0, 1], 0.1) > 0.4
    assert ws.equivalence_p([5, 6, 7], 5) > 0.5
    assert ws.equivalence_p([1.0], 5) == 1.0
    assert (ws.equivalence_p([2.0, 2.0], 3), ws.equivalence_p([2.0, 2.0], 2)) == (0.0, 1.0)


@pytest.mark.parametrize("margin", [0.8, 1.0, 1.3])
def test_equivalence_is_the_90_percent_interval_inside_the_margins(margin):
    for values in np.random.default_rng(2).normal(0.2, 1, size=(200, WORLDS)):
        inside = ws.t_estimate(values, level=0.1)
        assert (ws.equivalence_p(values, margin) < 0.05) == (-margin < inside.low and inside.high < margin)


def test_exact_interval_of_a_share():
    """200 of 200: (0.025)^(1/200) = 0.9817 to 1. The interval of 0 mirrors it. 8 of 10: 0.4439 to 0.9748 (tables)."""
    assert ws.clopper_pearson(200, 200) == (pytest.approx(0.025 ** (1 / 200)), 1.0)
    assert ws.clopper_pearson(0, 200) == (0.0, pytest.approx(1 - 0.025 ** (1 / 200)))
    assert ws.clopper_pearson(8, 10) == pytest.approx((0.4439, 0.9748), abs=1e-4)


def test_smallest_detectable_difference():
    """A paired t-test of 12 pairs with 80% power finds 0.887 standard deviations; of many, 2.802 / sqrt n."""
    assert ws.smallest_detectable(1.0, 12) == pytest.approx(0.887, abs=0.002)
    assert ws.smallest_detectable(2.5, 12) == pytest.approx(2.5 * ws.smallest_detectable(1.0, 12))
    assert ws.smallest_detectable(1.0, 10_000) == pytest.approx(0.02802, rel=1e-3)


def test_leave_one_out_by_hand():
    """Columns a 1, b 2, c 6 in one world. Without a: 4. A column that a world has not is left out of its average."""
    assert ws.leave_one_out({"a": [1.0], "b": [2.0], "c": [6.0]}) == {"a": 4.0, "b": 3.5, "c": 1.5}
    nan = float("nan")
    assert ws.leave_one_out({"a": [1.0, 1.0], "b": [2.0, nan], "c": [6.0, 8.0]})["a"] == (4.0 + 8.0) / 2


def test_verdicts():
    """Equivalence comes first: a difference too small to matter may be sure. Then come the p-value and the sign."""
    sure = [2.0, 2.1, 1.9, 2.0]
    assert ws.verdict(sure, 1.0, 0.01) == "supported"
    assert ws.verdict(sure, 1.0, 0.01, direction=-1) == "contradicted"
    assert ws.verdict(sure, 3.0, 0.01) == "equivalent"
    assert ws.verdict(sure, 1.0, 0.06) == "inconclusive"


@pytest.mark.parametrize("wrong", [[], [[1.0]], [1.0, float("nan")]])
def test_one_finite_number_a_world(wrong):
    for function in (ws.t_estimate, ws.sign_flip_p):
        with pytest.raises(ArgumentError, match="one finite number a world"):
            function(wrong)
    with pytest.raises(ArgumentError, match="margin"):
        ws.equivalence_p([1.0, 2.0], 0)


# --- fronts


def test_front_by_hand():
    """Rates give (gain, forgetting) (2, 1), (4, 1), (3, 5), from (0, 0). A gain of 1 costs 0.5, on the line to the
    first rate; 3 costs 1, between the first two; 4 the second rate's 1; 5 is never reached."""
    points = [[2, 1], [4, 1], [3, 5]]
    assert ws.least_forgetting(points, [0, 1, 2, 3, 4, 5]).tolist() == [0, 0.5, 1, 1, 1, math.inf]


def test_front_may_pass_through_a_later_rate():
    """A larger rate that forgets less is the better choice at every gain below its own."""
    assert ws.least_forgetting([[1, 3], [2, -1]], [0.5, 1, 2]).tolist() == [-1, -1, -1]


def test_most_gain_is_the_front_read_the_other_way():
    """(2, 1), (4, 1), (3, 5): forgetting nothing gains nothing, 0.5 gains 1, 1 gains 4; -1 is never reached."""
    assert ws.most_gain([[2, 1], [4, 1], [3, 5]], [-1, 0, 0.5, 1, 9]).tolist() == [-math.inf, 0, 1, 4, 4]


def test_area_between_fronts_by_hand():
    """One forgets 1 a point gained up to 4, the other 0.5 up to 6. Both reach 4: the mean of g / 2 over 0 to 4 is 1."""
    one, other = [[4, 4]], [[6, 3]]
    assert ws.common_gain(one, other) == 4
    assert ws.area_between(one, other, 1.0) == pytest.approx(1.0)
    assert ws.area_between(other, one, 1.0) == pytest.approx(-1.0)
    assert np.isnan(ws.area_between(one, other, 4.5))


def test_fronts_of_many_worlds_at_once():
    """Arrays of worlds give what each world gives."""
    rng = np.random.default_rng(3)
    one, other = rng.normal(2, 2, size=(5, 8, 2)), rng.normal(2, 2, size=(5, 6, 2))
    together = ws.area_between(one, other, 0.1)
    assert together == pytest.approx([float(ws.area_between(*pair, 0.1)) for pair in zip(one, other, strict=True)])


def test_front_by_a_slow_search():
    """1,000 places on every line of the path, searched one by one."""
    points = np.random.default_rng(4).normal(2, 2, size=(8, 2))
    line = ws.path(points)
    fine = np.concatenate([a + np.linspace(0, 1, 1000)[:, None] * (b - a) for a, b in itertools.pairwise(line)])
    for gain in np.linspace(0, line[:, 0].max(), 20):
        slow = fine[fine[:, 0] >= gain - 0.01, 1].min()
        assert ws.least_forgetting(points, [gain])[0] == pytest.approx(slow, abs=0.05)


def test_fronts_over_equal_worlds():
    """Twelve worlds alike: every pseudo-value is the area, and the lower front dominates."""
    one, other = np.tile([[4.0, 2.0]], (WORLDS, 1, 1)), np.tile([[4.0, 4.0]], (WORLDS, 1, 1))
    assert ws.front_differences(one, other, 1.0) == pytest.approx([-1.0] * WORLDS)
    assert ws.front_differences(one, other, 5.0) is None
    assert (ws.dominance(one, other, draws=50), ws.dominance(other, one, draws=50)) == (1.0, 0.0)


def test_pseudo_values_of_one_rate_are_the_worlds_themselves():
    """Where each method has one rate and the same gain, the area is linear: half of the difference in forgetting."""
    forgetting = np.random.default_rng(6).normal(3, 1, size=(2, WORLDS))
    one, other = (np.stack([np.full(WORLDS, 4.0), f], axis=-1)[:, None, :] for f in forgetting)
    assert ws.front_differences(one, other, 1.0) == pytest.approx((forgetting[0] - forgetting[1]) / 2)


# --- what the statistics promise, by simulation. Bounds are three standard errors of the simulation and more.


def worlds_of_items(rng, trials, share, effect=0.0, worlds=WORLDS, items=400):
    """Differences of two rows, (trials, worlds): `share` of the variance of a world's difference lies between worlds,
    the rest is that of the mean of `items` items, each a verdict won, lost or alike."""
    between = effect + rng.normal(0, math.sqrt(share), size=(trials, worlds))
    won, lost = rng.binomial(items, 0.2, size=(2, trials, worlds)) / items
    within = (won - lost) / math.sqrt(2 * 0.2 * 0.8 / items)
    return between + math.sqrt(1 - share) * within


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_t_interval_covers_the_truth(share):
    """95% of 4,000 intervals over twelve worlds hold the true effect, whatever lies between worlds."""
    drawn = worlds_of_items(np.random.default_rng(10), 4000, share, effect=0.3)
    found = [ws.t_estimate(values) for values in drawn]
    assert np.mean([e.low <= 0.3 <= e.high for e in found]) == pytest.approx(0.95, abs=0.011)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_nothing_against_nothing_is_found_in_one_of_twenty(share):
    """A against A, 2,000 trials: t and sign flips call 5% +- 1% significant (1.5 points are three standard errors)."""
    drawn = worlds_of_items(np.random.default_rng(11), 2000, share)
    assert np.mean([ws.t_estimate(values).p < 0.05 for values in drawn]) == pytest.approx(0.05, abs=0.015)
    assert np.mean([ws.sign_flip_p(values) < 0.05 for values in drawn[:1000]]) == pytest.approx(0.05, abs=0.021)


def test_five_primary_questions_under_holm():
    """2,000 trials of five questions with no effect, unrelated: some question is found in at most 5% of them."""
    drawn = worlds_of_items(np.random.default_rng(12), 10_000, 0.5).reshape(2000, 5, WORLDS)
    wrong = [min(holm([ws.t_estimate(values).p for values in trial])) < 0.05 for trial in drawn]
    assert np.mean(wrong) == pytest.approx(0.05, abs=0.015)


def test_power_is_as_computed():
    """At the smallest detectable effect of 80%, 80% of 2,000 trials find it."""
    effect = ws.smallest_detectable(1.0, WORLDS)
    drawn = worlds_of_items(np.random.default_rng(13), 2000, 0.5, effect=effect)
    assert np.mean([ws.t_estimate(values).p < 0.05 for values in drawn]) == pytest.approx(0.8, abs=0.03)


def fronts(rng, trials, noise, slope, worlds=WORLDS):
    """Points (trials, worlds, 8 rates, 2): gain rises with the rate and saturates, forgetting is `slope` of the gain
    and then more; each point is off by `noise`."""
    strength = np.linspace(0.1, 1.0, 8)
    gain, forgetting = 8 * strength / (0.4 + strength), 8 * slope * strength**2
    truth = np.stack([gain, forgetting], axis=-1)
    return truth, truth + rng.normal(0, noise, size=(trials, worlds, 8, 2))


def test_swapped_names_by_hand():
    """One rate, equal gains: the area is half of the mean difference in forgetting, and swapping names flips its sign
    in that world, so that the p-value is that of sign flips."""
    forgetting = np.random.default_rng(7).normal([[3.0], [2.5]], 1, size=(2, 6))
    one, other = (np.stack([np.full(6, 4.0), f], axis=-1)[:, None, :] for f in forgetting)
    assert ws.joint_swap_p([(one, other)]) == ws.sign_flip_p(forgetting[0] - forgetting[1])
    many = np.concatenate([one, one, one])  # 18 worlds: patterns are drawn
    assert ws.joint_swap_p([(many, many + np.array([0.0, 2.0]))]) == 1 / ws.SWAP_DRAWS


def test_fronts_of_one_method_twice_are_told_apart_in_one_of_twenty():
    """A against A on fronts of eight worlds, 600 trials, the rate chosen anew at every gain: 5% within three errors."""
    rng = np.random.default_rng(14)
    _, one = fronts(rng, 600, 1.5, 0.5, worlds=8)
    _, other = fronts(rng, 600, 1.5, 0.5, worlds=8)
    found = [ws.joint_swap_p([(a, b)]) for a, b in zip(one, other, strict=True)]
    assert np.mean(np.array(found) <= 0.05) == pytest.approx(0.05, abs=0.027)


def test_area_between_fronts_is_covered():
    """Two methods whose true fronts are known, 1,000 trials: 95% of the intervals hold the true area. Of the areas of
    single worlds' fronts fewer do, since each takes the luckiest rate."""
    rng = np.random.default_rng(15)
    truth_one, one = fronts(rng, 1000, 1.0, 0.7)
    truth_other, other = fronts(rng, 1000, 1.0, 0.4)
    true = ws.area_between(truth_one, truth_other, 1.0)

    def coverage(values):
        return np.mean([e.low <= true <= e.high for e in map(ws.t_estimate, values)])

    together = coverage([ws.front_differences(a, b, 1.0) for a, b in zip(one, other, strict=True)])
    assert together == pytest.approx(0.95, abs=0.021)
    assert coverage(ws.area_between(one, other, 1.0)) < together
