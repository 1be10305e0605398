"""The five answers on worlds whose effects are planted."""

from __future__ import annotations

import numpy as np
import pytest

from gdpo.report.trial import answers
from gdpo.report.trial.answers import MAIN_SETS, NARROW, PRINTED, Answer
from tests.report.trial.made_worlds import BEFORE, world

RATES = ("0.0001", "0.001")
FIXED = {"sft": 0.001, PRINTED: 0.0001}


def counts(gain: int, lost: int) -> tuple[int, ...]:
    """Right of ten where `gain` more of `add` are right and `lost` fewer of each untaught column."""
    add, take, *untaught, form = BEFORE
    return (add + gain, take, *[right - lost for right in untaught], form)


def worlds(sft_loses=3, printed_loses=1, metakl_loses=0, random_loses=2, number=4):
    """Worlds where every method gains 20 and 40 points at its two rates and forgets so many tenths at the larger."""
    found = []
    for seed in range(number):
        cells = {}
        for name in (*MAIN_SETS, "random"):
            loses = {"metakl": metakl_loses, "random": random_loses}.get(name, printed_loses)
            cells[name, "sft", RATES[0]] = counts(2, 0)
            cells[name, "sft", RATES[1]] = counts(4, sft_loses + seed % 2)
            cells[name, PRINTED, RATES[0]] = counts(2, 0)
            cells[name, PRINTED, RATES[1]] = counts(4, loses)
            for rate in RATES:
                cells["metakl", "grpo", rate] = counts(4, 0)
        found.append(world(cells, seed))
    return found


def test_narrow_forgetting_is_the_mean_over_sets():
    """SFT loses 3, 4, 3, 4 tenths of each untaught column at its fixed rate: 35 points."""
    found = answers.narrow_forgetting(worlds(), answers.fixed(FIXED))
    assert found.effect == pytest.approx(35)
    assert found.values == pytest.approx((30, 40, 30, 40))
    assert found.p == 2 / 2**4  # four worlds of one sign
    assert [part.effect for part in found.parts] == pytest.approx([35] * len(NARROW))


def test_objective_is_an_area_between_fronts():
    """At gains up to 20 neither forgets; from 20 to 40 SFT's line rises to 35 and GDPO's to 10 (to 0 on MetaKL).

    The mean over gains of the difference is a quarter of 35 - 10, and of 35 on MetaKL.
    """
    found = answers.objective(worlds())
    assert found.effect == pytest.approx(np.mean([25 / 4] * 3 + [35 / 4]), abs=0.01)
    assert found.parts[3].effect == pytest.approx(35 / 4, abs=0.01)
    assert found.note == ""


def test_fronts_without_a_common_gain_are_left_out():
    """Where no row of one method gains anything, that set is not comparable, and said."""
    flat = worlds()
    for made in flat:
        for rate in RATES:
            place = made.row(("union", PRINTED), rate, 0)
            made.world.codes[place] = made.world.codes[made.untrained]
    found = answers.objective(flat)
    assert found.note == "not comparable: union/sft - union/gdpo-literal"
    assert np.isnan(found.parts[2].effect)
    assert np.isfinite(found.effect)


def test_data_needs_both_parts():
    """MetaKL forgets nothing: narrow sets a quarter of 10 more at equal gain, the random set a quarter of 20."""
    found = answers.data(worlds())
    assert [part.effect for part in found.parts] == pytest.approx([2.5, 5.0], abs=0.01)
    assert found.effect == found.parts[0].effect
    worse = answers.data(worlds(random_loses=0, metakl_loses=1))
    assert worse.effect == pytest.approx(-2.5, abs=0.01)
    assert worse.p == min(1, 2 * worse.parts[1].p)  # one part contradicts the claim


def test_both_compares_with_the_best_row():
    """MetaGDPO's row at its fixed rate is GDPO's of every other set: the least difference is 0."""
    found = answers.both(worlds(), answers.fixed(FIXED))
    assert found.effect == pytest.approx(0)
    assert found.note == "least: MetaGDPO - hard-only/gdpo-literal"
    assert found.parts[0].question == "MetaGDPO - Origin"
    assert found.parts[0].effect == pytest.approx(20 / 5)  # add's 20 points over two taught and three untaught columns


def test_cost_takes_each_method_at_its_validated_rate():
    found = answers.cost(worlds(), [float(rate) for rate in RATES])
    assert found.effect == pytest.approx(0)


def test_verdicts():
    def answer(question: str, values: list[float]) -> Answer:
        return answers.of_values(question, np.array(values))

    spread = [0.0, 0.1, 0.2, 0.3, 0.1, 0.2, 0.0, 0.1, 0.2, 0.3, 0.1, 0.0]
    given = [
        answer("1", [5 + x for x in spread]),
        answer("2", [-5 + x for x in spread]),
        answer("3", spread),
        answer("4", [20 * (-1) ** i * x for i, x in enumerate(spread)]),
        answer(answers.AS_GOOD, [-3 + x for x in spread]),
    ]
    found = answers.judged(given)
    assert [a.verdict for a in found] == ["supported", "contradicted", "equivalent", "inconclusive", "contradicted"]
    assert found[0].adjusted_p == pytest.approx(5 * 2 / 2**12)


def test_as_good_is_supported_by_better():
    spread = [3.0, 3.1, 3.2, 3.3]
    assert answers.judged([answers.of_values(answers.AS_GOOD, np.array(spread))])[0].verdict == "supported"
