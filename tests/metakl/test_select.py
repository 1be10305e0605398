"""Algorithm 1 against a literal transcription, and what the choices around it promise."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import selection as benchmark
from gdpo.config.data import Selection
from gdpo.config.models import TrainSet
from gdpo.core.files import read_csv
from gdpo.core.records import Question
from gdpo.metakl.select import (
    Pool,
    check_size,
    hardest,
    joined,
    keep_ratios,
    metakl,
    quotas,
    random_sample,
    sample_by_hash,
    stratified_sample,
    union,
)
from tests.metakl import literal_selection as literal
from tests.refusal import refused


@st.composite
def needs(draw, most=25):
    """The units of each question, some named twice; a few questions need none."""
    names = [f"u{i}" for i in range(draw(st.integers(1, 8)))]
    return draw(st.lists(st.lists(st.sampled_from(names), max_size=6), min_size=1, max_size=most))


@st.composite
def instances(draw):
    units = draw(needs())
    counts = Counter(unit for needed in units for unit in set(needed))
    ratios = {k: draw(st.floats(0, 1)) for k in counts}
    order = [(draw(st.integers(0, 3)),) for _ in units]
    indices = range(len(units))
    chosen = draw(st.lists(st.sampled_from(indices), max_size=4, unique=True))
    candidates = draw(st.none() | st.lists(st.sampled_from(indices), unique=True))
    return units, ratios, order, {"counts": counts, "chosen": chosen, "candidates": candidates}


def algorithm1(units, ratios, order, *, counts, chosen=(), candidates=None):
    """The greedy loop by the names of literal_selection: indices of the questions that are added to `chosen`."""
    pool = Pool.of(units, order)
    number = {index: q for q, index in enumerate(pool.indices)}
    free = np.zeros(len(units), dtype=bool)
    free[[number[i] for i in (range(len(units)) if candidates is None else candidates)]] = True
    wanted = quotas(*(np.array([values[k] for k in pool.names], dtype=float) for values in (ratios, counts)))
    return [pool.indices[q] for q in pool.greedy(wanted, chosen=[number[i] for i in chosen], allowed=free)]


@settings(max_examples=300, deadline=None)
@given(instances())
def test_greedy_equals_literal_algorithm(instance):
    units, ratios, order, given_ = instance
    assert algorithm1(units, ratios, order, **given_) == literal.algorithm1(units, ratios, order, **given_)


@st.composite
def pools(draw):
    """What `metakl` is given: averages of five models, or all alike; units' averages of their own; any size."""
    units = draw(needs(most=16))
    share = draw(st.sampled_from([st.just(0.5), st.integers(0, 5).map(lambda right: right / 5)]))
    questions = [question(i, needed) for i, needed in enumerate(units)]
    average = {q.id: draw(share) for q in questions}
    unit_average = {k: draw(st.sampled_from([0.0, 0.2, 1 / 3, 0.7, 1.0])) for needed in units for k in needed}
    selection = Selection(keep_units=draw(st.integers(2, 7)), replay_per_unit=draw(st.sampled_from([0, 1, 2, 20])))
    size = draw(st.integers(1, len(units) + 2))
    return questions, average, unit_average, selection, size, draw(st.sampled_from([0.0, 0.4, 0.8, 1.0]))


@settings(max_examples=120, deadline=None)
@given(pools())
def test_metakl_equals_literal_selection(pool):
    assert metakl(*pool).indices == literal.metakl(*pool)


def test_metakl_equals_literal_selection_on_synthetic_questions():
    """1,941 questions, 416 units, 600 chosen; the bisection's 41 slopes ask for some ten different quotas."""
    given_ = benchmark.synthetic(benchmark.QUESTIONS // 20, benchmark.UNITS // 20)
    entries = (
        given_.questions,
        given_.average,
        given_.unit_average,
        Selection(keep_units=6, replay_per_unit=1),
        600,
        0.9,
    )
    assert len(given_.questions) == 1941 and len(given_.unit_average) == 416
    assert {unit for q in given_.questions for unit in q.units} == given_.unit_average.keys()
    assert Counter(len(q.units) for q in given_.questions).most_common(1)[0][0] == 4
    chosen = metakl(*entries)
    assert chosen.indices == literal.metakl(*entries, slope=chosen.slope)
    assert len(set(chosen.indices)) == 600
    assert 0.1 < chosen.slope < 1 and 5 < chosen.trials < 20


def test_selection_benchmark_stores_its_measurements(tmp_path):
    row = benchmark.main(["--part", "60", "--repeats", "2", "--out", str(tmp_path)])
    [kept] = read_csv(tmp_path / "selection.csv")
    assert kept == {name: str(value) for name, value in row.items()}
    assert (kept["questions"], kept["units"], kept["chosen"], kept["repeats"]) == ("647", "138", "83", "2")
    assert (tmp_path / "selection.csv.provenance.json").exists()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.floats(-0.5, 1.5), st.integers(1, 60)), min_size=1))
def test_quota_is_the_smallest_count_that_fails_the_comparison(pairs):
    ratios, counts = (np.array(column) for column in zip(*pairs, strict=True))
    for (ratio, count), quota in zip(pairs, quotas(ratios, counts).tolist(), strict=True):
        assert not quota / count < ratio
        assert quota == 0 or (quota - 1) / count < ratio


def test_a_quota_by_hand():
    """0.5 of 3: 1/3 < 0.5, 2/3 is not: 2. 1/3 of 3: 1/3 is not less: 1. 0.07 of 100, 7.000000000000001 as a product:
    7/100 < 0.07 is false in floating point, so 7, not 8. All of 4: 4. None: 0."""
    ratios, counts = [0.5, 1 / 3, 0.07, 1.0, 0.0], [3, 3, 100, 4, 9]
    assert quotas(np.array(ratios), np.array(counts)).tolist() == [2, 1, 7, 4, 0]


def test_greedy_limit_takes_a_prefix():
    pool = Pool.of([["a", "b"], ["a"], ["b", "c"], ["c"]], [(0,)] * 4)
    every = pool.greedy(np.array([2, 2, 2]))
    assert every == [0, 2, 1, 3]
    assert [pool.greedy(np.array([2, 2, 2]), limit=n) for n in range(6)] == [every[:n] for n in range(6)]


def test_greedy_takes_the_largest_gap_until_quotas_are_met():
    """Units a (C=3), b (C=1), r = 1/2 each. Question 2 needs both: gap 2, taken first; then a has 1/3 < 1/2, so
    one more question of a, the smaller in order (1); then a has 2/3 and b 1/1: no gap left."""
    units = [["a"], ["a"], ["a", "b"]]
    counts = {"a": 3, "b": 1}
    assert algorithm1(units, {"a": 0.5, "b": 0.5}, [(1,), (0,), (2,)], counts=counts) == [2, 1]


def test_the_ratio_falls_as_proficiency_rises():
    """r = min(1, 2/10 + 0.5 (1 - p)): 0.7 at p = 0, 0.45 at p = 0.5, 0.2 at p = 1; a rare unit is kept whole."""
    ratios = keep_ratios(np.array([10, 10, 10, 2]), np.array([0.0, 0.5, 1.0, 1.0]), 2, 0.5)
    assert ratios.tolist() == pytest.approx([0.7, 0.45, 0.2, 1.0])


def question(i, units=("u",), domain="math", grader="exact", difficulty=0.0):
    return Question(
        id=f"q{i:03}", domain=domain, source="s", question=f"text {i}", answer="1", grader=grader,
        units=list(units), difficulty=difficulty,
    )  # fmt: skip


def test_metakl_has_its_size_many_unit_questions_and_replay():
    questions = [question(i, ["easy"] if i < 40 else ["hard"]) for i in range(80)]
    questions.append(question(80, ["a", "b", "c"]))
    average = {q.id: 1.0 if i < 40 else 0.0 for i, q in enumerate(questions)}
    unit_average = {"easy": 1.0, "hard": 0.0, "a": 0.0, "b": 0.0, "c": 0.0}
    chosen = metakl(questions, average, unit_average, Selection(keep_units=3, replay_per_unit=4), 24, 0.5).indices
    assert len(chosen) == len(set(chosen)) == 24
    assert chosen[0] == 80
    assert sum(i < 40 for i in chosen) == 4
    assert sum(40 <= i < 80 for i in chosen) == 19


def test_too_much_replay_is_taken_from_mastered_units():
    """Two units of 10 questions each, 4 reminders: slope 0 asks for 8. Five are met by r = 0.4 for the new unit (p = 0:
    4 questions) and, at slopes just above -0.4, by a ratio just above 0 for the known one (p = 1): 1 question."""
    questions = [question(i, ["new" if i % 2 else "known"]) for i in range(20)]
    average = dict.fromkeys((q.id for q in questions), 0.5)
    found = metakl(questions, average, {"new": 0.0, "known": 1.0}, Selection(keep_units=9, replay_per_unit=4), 5, 0.9)
    assert found.slope == pytest.approx(-0.4)
    assert sorted(i % 2 for i in found.indices) == [0, 1, 1, 1, 1]


def test_harder_questions_come_first_within_a_unit():
    questions = [question(i) for i in range(10)]
    average = {q.id: i / 10 for i, q in enumerate(questions)}
    chosen = metakl(questions, average, {"u": 0.45}, Selection(keep_units=9, replay_per_unit=0), 3, 0.95).indices
    assert chosen == [0, 1, 2]


def test_greedy_runs_once_for_equal_quotas(monkeypatch):
    """Ten questions of one unit with p = 0: r = slope, so a slope in (t - 1, t] / 10 asks for t of them. For 3 of ten,
    bisection from (0, 1] tries quotas 10, 5, 3, 2 and ends at 3: the first greedy run is the reminders', four follow.
    """
    runs = []
    greedy = Pool.greedy
    monkeypatch.setattr(Pool, "greedy", lambda self, *a, **k: runs.append(1) or greedy(self, *a, **k))
    questions = [question(i) for i in range(10)]
    average = {q.id: 0.0 for q in questions}
    chosen = metakl(questions, average, {"u": 0.0}, Selection(keep_units=9, replay_per_unit=0), 3, 0.9)
    assert len(chosen.indices) == 3
    assert chosen.slope == pytest.approx(0.2)
    assert len(runs) == 1 + chosen.trials == 6


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
    assert [q.id for q in sample_by_hash(pool, safe)] == ["q002"]
    joined = union([pool[:3], pool[2:]], 3)
    assert [q.id for q in joined] == ["q000", "q002", "q001"]
    with refused(key="trainsets.safe.size", found="1 in the pool", expected="5 questions"):
        check_size("safe", safe, sample_by_hash(pool, safe))


def test_parts_are_nested_and_take_one_domain():
    def question(number: int) -> Question:
        domain = ("math", "general")[number % 2]
        return Question(id=f"q{number}", domain=domain, source="s", question=str(number), answer="1", grader="exact")

    whole = [question(number) for number in range(40)]

    def of(size: int, domain: str | None = None) -> list[str]:
        trainset = TrainSet(display="P", select="part", parts=["whole"], size=size, domain=domain)
        return [q.id for q in sample_by_hash(whole, trainset)]

    assert of(5) == of(20)[:5] == of(99)[:5]
    assert len(of(99)) == 40
    assert set(of(99, "math")) == {f"q{number}" for number in range(0, 40, 2)}
    check_size("p", TrainSet(display="P", select="part", parts=["whole"], size=99), whole)
    with refused(found="0 in the pool", expected="at least one question"):
        check_size("p", TrainSet(display="P", select="part", parts=["whole"], size=99), [])


def test_random_and_stratified_sets_are_drawn_by_their_seed():
    """90 math and 10 general questions: a random 20 holds few general ones, a stratified 20 all ten."""
    pool = [question(i, domain="general" if i < 10 else "math") for i in range(100)]
    entry = TrainSet(display="d", select="stratified", size=20, seed=0)
    for draw in (random_sample, stratified_sample):
        chosen = [q.id for q in draw(pool, entry, 1)]
        assert chosen == [q.id for q in draw(pool, entry, 1)]
        assert chosen != [q.id for q in draw(pool, entry, 2)]
        assert len(set(chosen)) == 20
    assert sum(q.domain == "general" for q in stratified_sample(pool, entry, 1)) == 10
    assert sum(q.domain == "general" for q in random_sample(pool, entry, 1)) < 8


def test_joined_sets_hold_every_question_once():
    one, other = [question(i) for i in (0, 1)], [question(i) for i in (1, 2, 3)]
    assert [q.id for q in joined([one, other], 3)] == ["q000", "q001", "q002"]
