"""Algorithm 1 against a literal transcription, and what the choices around it promise."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdpo.errors import UserError
from gdpo.metakl.select import algorithm1, any_of, check_size, hardest, keep_ratios, metakl, part, union
from gdpo.records import Question
from gdpo.schema import Selection, TrainSet


def literal(units, ratios, order, counts, chosen, candidates):
    """Algorithm 1 as printed: recompute every gap, take the largest, until none is positive."""
    selected = Counter(unit for q in chosen for unit in set(units[q]))
    remaining = [q for q in candidates if q not in set(chosen)]
    added = []
    while True:
        gaps = {q: sum(selected[k] / counts[k] < ratios[k] for k in set(units[q])) for q in remaining}
        positive = [q for q in remaining if gaps[q] > 0]
        if not positive:
            return added
        best = min(positive, key=lambda q: (-gaps[q], order[q], q))
        added.append(best)
        remaining.remove(best)
        selected.update(set(units[best]))


@st.composite
def instances(draw):
    names = [f"u{i}" for i in range(draw(st.integers(1, 6)))]
    units = draw(st.lists(st.lists(st.sampled_from(names), min_size=1, max_size=5), min_size=1, max_size=25))
    counts = Counter(unit for needed in units for unit in set(needed))
    ratios = {k: draw(st.floats(0, 1)) for k in counts}
    order = [(draw(st.integers(0, 3)),) for _ in units]
    indices = range(len(units))
    chosen = draw(st.lists(st.sampled_from(indices), max_size=4, unique=True))
    candidates = draw(st.lists(st.sampled_from(indices), unique=True))
    return units, ratios, order, counts, chosen, candidates


@settings(max_examples=300, deadline=None)
@given(instances())
def test_the_heap_gives_the_literal_selection_in_the_literal_order(instance):
    units, ratios, order, counts, chosen, candidates = instance
    found = algorithm1(units, ratios, order, counts=counts, chosen=chosen, candidates=candidates)
    assert found == literal(units, ratios, order, counts, chosen, sorted(candidates))


def test_the_largest_gap_goes_first_and_quotas_stop_it():
    """Units a (C=3), b (C=1), r = 1/2 each. Question 2 needs both: gap 2, taken first; then a has 1/3 < 1/2, so
    one more question of a, the smaller in order (1); then a has 2/3 and b 1/1: no gap left."""
    units = [["a"], ["a"], ["a", "b"]]
    counts = {"a": 3, "b": 1}
    assert algorithm1(units, {"a": 0.5, "b": 0.5}, [(1,), (0,), (2,)], counts=counts) == [2, 1]


def test_the_ratio_falls_as_proficiency_rises():
    """r = min(1, 2/10 + 0.5 (1 - p)): 0.7 at p = 0, 0.45 at p = 0.5, 0.2 at p = 1; a rare unit is kept whole."""
    counts = {"new": 10, "half": 10, "known": 10, "rare": 2}
    ratios = keep_ratios(counts, {"new": 0.0, "half": 0.5, "known": 1.0, "rare": 1.0}, 2, 0.5)
    assert ratios == pytest.approx({"new": 0.7, "half": 0.45, "known": 0.2, "rare": 1.0})


def question(i, units=("u",), domain="math", grader="exact", difficulty=0.0):
    return Question(
        id=f"q{i:03}", domain=domain, source="s", question=f"text {i}", answer="1", grader=grader,
        units=list(units), difficulty=difficulty,
    )  # fmt: skip


def test_metakl_meets_its_size_keeps_many_unit_questions_and_reminders():
    questions = [question(i, ["easy"] if i < 40 else ["hard"]) for i in range(80)]
    questions.append(question(80, ["a", "b", "c"]))
    average = {q.id: 1.0 if i < 40 else 0.0 for i, q in enumerate(questions)}
    unit_average = {"easy": 1.0, "hard": 0.0, "a": 0.0, "b": 0.0, "c": 0.0}
    chosen = metakl(questions, average, unit_average, Selection(keep_units=3, reminders=4), 24, 0.5)
    assert len(chosen) == len(set(chosen)) == 24
    assert chosen[0] == 80
    assert sum(i < 40 for i in chosen) == 4
    assert sum(40 <= i < 80 for i in chosen) == 19


def test_harder_questions_come_first_within_a_unit():
    questions = [question(i) for i in range(10)]
    average = {q.id: i / 10 for i, q in enumerate(questions)}
    chosen = metakl(questions, average, {"u": 0.45}, Selection(keep_units=9, reminders=0), 3, 0.95)
    assert chosen == [0, 1, 2]


def test_baseline_sets_admit_by_domain_grader_and_difficulty():
    pool = [
        question(0, difficulty=0.2),
        question(1, difficulty=0.9),
        question(2, domain="safety", grader="refusal"),
    ]
    pool.append(question(3, domain="safety"))
    hard = TrainSet(display="h", select="hardest", domain="math", size=1)
    safe = TrainSet(display="s", select="domain", domain="safety", grader="refusal", size=5)
    assert [q.id for q in hardest(pool, hard)] == ["q001"]
    assert [q.id for q in any_of(pool, safe)] == ["q002"]
    joined = union([pool[:3], pool[2:]], 3)
    assert [q.id for q in joined] == ["q000", "q002", "q001"]
    with pytest.raises(UserError, match=r"trainsets\.safe\.size: expected 5 questions, the pool yields 1"):
        check_size("safe", safe, any_of(pool, safe))


def test_parts_lie_within_each_other_and_take_one_domain():
    def question(number: int) -> Question:
        domain = ("math", "general")[number % 2]
        return Question(id=f"q{number}", domain=domain, source="s", question=str(number), answer="", grader="exact")

    whole = [question(number) for number in range(40)]

    def of(size: int, domain: str | None = None) -> list[str]:
        trainset = TrainSet(display="P", select="part", parts=["whole"], size=size, domain=domain)
        return [q.id for q in part(whole, trainset)]

    assert of(5) == of(20)[:5] == of(99)[:5]
    assert len(of(99)) == 40
    assert set(of(99, "math")) == {f"q{number}" for number in range(0, 40, 2)}
    check_size("p", TrainSet(display="P", select="part", parts=["whole"], size=99), whole)
    with pytest.raises(UserError, match="expected 99 questions, the pool yields 0"):
        check_size("p", TrainSet(display="P", select="part", parts=["whole"], size=99), [])
