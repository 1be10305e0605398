"""The exploratory comparisons on worlds whose effects are planted."""

from __future__ import annotations

import pytest

from gdpo.report.trial import exploratory
from gdpo.report.trial.exploratory import Comparison
from tests.report.trial.made_worlds import world
from tests.report.trial.test_answers import RATES, counts, worlds


def by_name(found: list[Comparison]) -> dict[tuple[str, str], Comparison]:
    return {(one.answer.question, one.measure): one for one in found}


def test_narrow_forgetting_at_each_rate():
    """SFT forgets nothing at the smaller rate, and 3, 4, 3, 4 tenths at the larger, where it gains 40 points."""
    found = by_name(exploratory.comparisons(worlds()))
    assert found["narrow SFT at 0.0001", "forgetting"].answer.effect == pytest.approx(0)
    assert found["narrow SFT at 0.001", "forgetting"].answer.effect == pytest.approx(35)
    assert found["hard-only/sft at 0.001", "gain"].answer.effect == pytest.approx(40)


def test_rules_take_different_rates():
    """The own skill prefers the larger rate, 35 points of forgetting; all columns prefer the smaller, without any."""
    found = by_name(exploratory.comparisons(worlds()))
    assert found["own: narrow SFT", "forgetting"].answer.effect == pytest.approx(35)
    assert found["best: narrow SFT", "forgetting"].answer.effect == pytest.approx(0)
    # Five columns: MetaGDPO at +40 of add alone, SFT on hard-only at +40 of add less 35 of each of three.
    assert found["own: MetaGDPO - hard-only/sft", "average"].answer.effect == pytest.approx(3 * 35 / 5)
    assert found["own: MetaGDPO - Origin", "average"].answer.effect == pytest.approx(40 / 5)


def test_controls_are_means_over_the_rates_that_both_have():
    """Near gains 10, 30 and 50; foreign, at the two larger rates, 0 and 10, and loses a tenth of untaught columns."""
    made = [
        world(
            {
                ("metakl", "sft-self", rate): counts(gain, 0)
                for rate, gain in (("2e-05", 1), *zip(RATES, (3, 5), strict=True))
            }
            | {("metakl-foreign", "sft-self", rate): counts(gain, 1) for rate, gain in zip(RATES, (0, 1), strict=True)},
            seed,
        )
        for seed in range(3)
    ]
    found = by_name(exploratory.comparisons(made))
    assert found["teacher, SFT (right): foreign - near", "gain"].answer.effect == pytest.approx(5 - 40)
    assert found["teacher, SFT (right): foreign - near", "forgetting"].answer.effect == pytest.approx(10)
    assert len(found) == 2  # what the worlds have no runs of is left out


def test_p_values_are_adjusted_for_all_comparisons():
    found = exploratory.comparisons(worlds())
    assert [one.adjusted_p >= one.answer.p for one in found] == [True] * len(found)
    least = min(found, key=lambda one: one.answer.p)
    tied = sum(one.answer.p == least.answer.p for one in found)
    assert least.adjusted_p == pytest.approx(min(1, least.answer.p * len(found) / tied))


def test_every_named_row_is_one_of_the_trial(trial_cells):
    """A comparison of a cell that the trial does not run would silently never be printed."""
    named = {cell for pairs in exploratory.FRONTS.values() for pair in pairs for cell in pair}
    named |= {cell for one, other, _ in exploratory.AT_EQUAL_RATES.values() for cell in (one, other)}
    assert named | {exploratory.PRETRAINING, *exploratory.POSITIVE} <= trial_cells


@pytest.fixture
def trial_cells():
    from gdpo.config.loader import load_scale

    trial = load_scale("trial").trial
    assert trial is not None
    return {(row.trainset, row.method) for row in trial.rows}
