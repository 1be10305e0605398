"""Specifications and predictions on worlds whose effects are planted."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from gdpo.report.trial import specifications
from gdpo.report.trial.answers import primary
from gdpo.report.trial.predictions import predictions
from tests.report.trial.test_answers import FIXED, RATES, worlds

GRPO = [float(rate) for rate in RATES]


def test_every_rule_and_column_asks_anew():
    """Three untaught and two taught columns; no runs of our reading, so that question 2 has none by it."""
    found = specifications.specifications(worlds(), FIXED, GRPO)
    asked = Counter((one.answer.question[0], one.rule, one.reading) for one in found)
    ruled = {("1", rule, "printed"): 1 + 3 for rule in ("fixed", "own", "best")}
    ruled |= {("4", rule, "printed"): 1 + 5 for rule in ("fixed", "own", "best")}
    fronts = {("2", "front", "printed"): 1 + 3, ("3", "front", "printed"): 1 + 3, ("5", "own", "printed"): 1 + 5}
    assert asked == ruled | fronts


def test_what_the_protocol_asks_is_one_of_them():
    found = specifications.specifications(worlds(), FIXED, GRPO)
    rules = dict(zip("12345", ("fixed", "front", "front", "fixed", "own"), strict=True))
    for answer in primary(worlds(), FIXED, GRPO):
        number = answer.question[0]
        same = [
            one.answer.effect
            for one in found
            if one.answer.question[0] == number and one.rule == rules[number] and not one.without
        ]
        assert same == [pytest.approx(answer.effect)]


def test_the_rule_decides_what_narrow_sft_forgets():
    """35 points at the fixed rate and by a set's own skill; none where all columns choose."""
    found = specifications.specifications(worlds(), FIXED, GRPO)
    effects = {one.rule: one.answer.effect for one in found if one.answer.question[0] == "1" and not one.without}
    assert effects == {"fixed": pytest.approx(35), "own": pytest.approx(35), "best": pytest.approx(0)}


def test_specifications_are_drawn(tmp_path):
    found = specifications.specifications(worlds(), FIXED, GRPO)
    paths = specifications.draw(found, tmp_path / "specifications", "made up")
    assert {path.suffix for path in paths} == {".pdf", ".png"}
    assert all(path.stat().st_size > 1000 for path in paths)
    written = specifications.rows(found)
    assert [row["effect"] for row in written] == [
        f"{one.answer.effect:.2f}" if np.isfinite(one.answer.effect) else "" for one in found
    ]


def test_predictions_are_of_every_pair_of_rows():
    """SFT gains 40 points and forgets 30 or 40 at its rate; GDPO on MetaKL gains 20 and forgets nothing."""
    found = {(row["measure"], row["first"], row["second"]): row for row in predictions(worlds(), FIXED)}
    assert len(found) == 2 * 5 * 4 / 2  # four rows of SFT and MetaGDPO; none of our reading
    gain = found["gain", "metakl/sft", "metakl/gdpo-literal"]
    assert (gain["difference"], gain["predicted"]) == ("20.00", "metakl/sft")
    forgets = found["forgetting", "metakl/sft", "metakl/gdpo-literal"]
    assert (forgets["difference"], forgets["predicted"]) == ("35.00", "metakl/sft")
    same = found["forgetting", "hard-only/sft", "union/sft"]
    assert (same["difference"], same["low"], same["high"], same["predicted"]) == ("0.00", "0.00", "0.00", "")
