"""Proficiency per question and unit, its sample and its estimates, by hand-worked numbers."""

from __future__ import annotations

import random

import pytest

from gdpo.config.data import Proficiency
from gdpo.core.records import Question
from gdpo.metakl.proficiency import estimate_unmeasured, measured_sample, question_proficiency, unit_proficiency
from gdpo.metakl.select import stable_hash
from tests.refusal import refused


def question(name: str, units=(), domain="math") -> Question:
    return Question(id=name, domain=domain, source="s", question=name, answer="1", grader="exact", units=list(units))


def settings(questions) -> Proficiency:
    return Proficiency(models=["m"], questions=questions, max_new_tokens=8, batch_size=8)


def test_average_and_strict_proficiency_by_hand():
    """q1: right by both (average 1, strict 1); q2: by one (1/2, 0). Unit a has both: 3/4 and 1/2; b only q2."""
    rows = question_proficiency({"m1": {"q1": 1.0, "q2": 1.0}, "m2": {"q1": 1.0, "q2": 0.0}})
    assert rows["q1"] == {"m1": 1.0, "m2": 1.0, "average": 1.0, "strict": 1.0}
    assert rows["q2"] == {"m1": 1.0, "m2": 0.0, "average": 0.5, "strict": 0.0}
    questions = [question("q1", ["a"]), question("q2", ["a", "b"]), question("unmeasured", ["c"])]
    assert unit_proficiency(questions, rows) == {
        "a": {"count": 2, "average": 0.75, "strict": 0.5},
        "b": {"count": 1, "average": 0.5, "strict": 0.0},
    }


def test_strict_needs_every_sample_of_every_model():
    """Four samples each. q1: 4/4 and 4/4, average 1, strict. q2: 3/4 and 4/4, average 7/8, and one sample is wrong."""
    rows = question_proficiency({"m1": {"q1": 1.0, "q2": 0.75}, "m2": {"q1": 1.0, "q2": 1.0}})
    assert (rows["q1"]["average"], rows["q1"]["strict"]) == (1.0, 1.0)
    assert (rows["q2"]["average"], rows["q2"]["strict"]) == (0.875, 0.0)
    units = unit_proficiency([question("q1", ["a"]), question("q2", ["a", "a"])], rows)
    assert units == {"a": {"count": 2, "average": 0.9375, "strict": 0.5}}


def test_models_must_have_answered_the_same_questions():
    with refused(key="proficiency", found="q2 answered by", expected="every model's answers to the same questions"):
        question_proficiency({"m1": {"q1": 1.0, "q2": 1.0}, "m2": {"q1": 1.0}})
    with refused(key="proficiency", found="q3 answered by one of m1 and m2 alone"):
        question_proficiency({"m1": {"q1": 1.0}, "m2": {"q1": 1.0, "q3": 0.0}})


POOL = [question(f"q{n}", domain=("math", "general", "safety")[n % 3]) for n in range(60)]


def test_measured_sample_does_not_depend_on_pool_order():
    ordered = sorted(POOL, key=lambda q: stable_hash(q.id))
    shuffled = random.Random(0).sample(POOL, len(POOL))
    assert measured_sample(POOL, settings(None)) == POOL
    assert measured_sample(shuffled, settings(None)) == shuffled
    assert measured_sample(POOL, settings(7)) == measured_sample(shuffled, settings(7)) == ordered[:7]
    assert measured_sample(POOL, settings(999)) == ordered
    assert ordered != POOL


def test_measured_sample_by_domain_is_nested():
    """Of 20 a domain: 3 math, all 20 safety though 50 are asked for, and no general one."""
    sample = measured_sample(POOL, settings({"math": 3, "safety": 50}))
    domains = [q.domain for q in sample]
    assert (domains.count("math"), domains.count("safety"), domains.count("general")) == (3, 20, 0)
    assert sample == sorted(sample, key=lambda q: stable_hash(q.id))
    larger = measured_sample(POOL, settings({"math": 5, "safety": 50}))
    assert {q.id for q in sample} < {q.id for q in larger}


def test_unmeasured_values_are_estimated_from_units_then_domains():
    """Measured: math m1 = 1, m2 = 0.5 (mean 0.75); general g1 = 0.2. Overall 1.7 / 3. Units a = 0.75, b = 0.5.

    m3 needs a and b: 0.625. m4 needs c, which no measured question needs: c is math's 0.75, and so is m4.
    g2 needs d, of math and general questions alike: d = (0.75 + 0.2) / 2 = 0.475; with a: g2 = 0.6125; m5 has d alone.
    s1 is of safety, of which nothing is measured: e and s1 are 1.7 / 3, and so is s2, which has no unit.
    """
    overall = 1.7 / 3
    questions = [
        question("m1", ["a"]), question("m2", ["a", "b"]), question("g1", [], "general"),
        question("m3", ["a", "b", "a"]), question("m4", ["c"]),
        question("g2", ["a", "d"], "general"), question("m5", ["d"]),
        question("s1", ["e"], "safety"), question("s2", [], "safety"),
    ]  # fmt: skip
    average, units = {"m1": 1.0, "m2": 0.5, "g1": 0.2}, {"a": 0.75, "b": 0.5}
    found, found_units = estimate_unmeasured(questions, average, units)
    expected = {"m3": 0.625, "m4": 0.75, "g2": 0.6125, "m5": 0.475, "s1": overall, "s2": overall}
    assert found == pytest.approx(average | expected)
    assert found_units == pytest.approx(units | {"c": 0.75, "d": 0.475, "e": overall})
    assert (average, units) == ({"m1": 1.0, "m2": 0.5, "g1": 0.2}, {"a": 0.75, "b": 0.5})


def test_nothing_is_estimated_if_all_or_none_is_measured():
    questions = [question("q1", ["a"]), question("q2", ["a"])]
    everything = ({"q1": 1.0, "q2": 0.0}, {"a": 0.5})
    assert estimate_unmeasured(questions, *everything) == everything
    assert estimate_unmeasured(questions, {"elsewhere": 1.0}, {}) == ({"elsewhere": 1.0}, {})
