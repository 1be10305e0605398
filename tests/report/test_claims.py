"""Claims as tests: effects worked by hand on samples written by hand, the rule, and what a scale cannot say."""

from __future__ import annotations

from math import inf, sqrt

import pytest

from gdpo.config.layout import Layout, Run
from gdpo.config.loader import load_scale
from gdpo.core.files import write_csv, write_json, write_jsonl
from gdpo.report import claims
from gdpo.report.claims.schema import Claims
from gdpo.report.claims.verdicts import judge, range_text
from tests.refusal import refused

HARD = {"trainset": "hard-only", "method": "sft"}
META = {"trainset": "metakl", "method": "gdpo"}
STUDENTS = ("tiny-s", "tiny-m")


@pytest.fixture
def layout(tmp_path, monkeypatch):
    """Two students, Tiny-M the large one; two seeds; every table of scores and the comparison for both students."""
    monkeypatch.chdir(tmp_path)
    scale = load_scale("tiny")
    tables = {
        n: t.model_copy(update={"students": "main"} if t.students == "study" else {}) for n, t in scale.tables.items()
    }
    fixed = {"seeds": [0, 1], "students": list(STUDENTS), "student_sets": {"large": ["tiny-m"]}, "tables": tables}
    fixed["proficiency"] = scale.proficiency.model_copy(update={"models": list(STUDENTS)})
    return Layout(scale.model_copy(update={"bootstrap_draws": 2000, **fixed}))


def put(layout, student, trainset, method, right, **of):
    """Of each benchmark's 20 items, runs have the first `right` right, or as many as `of` says of a benchmark."""
    seeds = [0] if method == "origin" else layout.scale.seeds
    for seed in seeds:
        for name in layout.scale.benchmarks:
            count = of.get(name, right)
            rows = [{"id": str(i), "verdict": "right" if i < count else "wrong"} for i in range(20)]
            write_jsonl(layout.samples(Run(student, trainset, method, seed), "test") / f"{name}.jsonl", rows)


def test(layout, **claim):
    """The one result of a claim."""
    whole = {"statement": "s", "source": "T", "reading": "r", **claim}
    return claims.results(layout, Claims.model_validate({"x": whole}).root)[0]


test.__test__ = False


@pytest.mark.parametrize(
    "low, high, claimed, verdict",
    [
        (0.1, 2.0, (0, inf), "supported"),
        (-2.0, -0.1, (0, inf), "contradicted"),
        (-0.1, 2.0, (0, inf), "inconclusive"),
        (0.0, 0.0, (0, inf), "inconclusive"),  # a bound belongs to neither side
        (-2.0, -0.1, (-inf, 0), "supported"),
        (-0.9, 0.9, (-1, 1), "supported"),
        (-0.9, 1.1, (-1, 1), "inconclusive"),
        (1.1, 2.0, (-1, 1), "contradicted"),
        (-2.0, -1.1, (-1, 1), "contradicted"),
        (None, None, (0, inf), "inconclusive"),
        (1.2, inf, (-inf, 1), "contradicted"),  # a ratio without an upper end
        (0.8, inf, (-inf, 1), "inconclusive"),
    ],
)
def test_verdict_of_an_interval(low, high, claimed, verdict):
    assert judge(low, high, claimed) == verdict


def test_verdict_with_a_refuted_range():
    """No benchmark falls, margin 5: surely fallen refutes, even by less than 5; between is open."""
    claimed, refuted = (-5, inf), (-inf, 0)
    assert judge(-4, -1, claimed, refuted) == "contradicted"
    assert judge(-4, 1, claimed, refuted) == "supported"
    assert judge(-6, 1, claimed, refuted) == "inconclusive"
    assert [range_text(r) for r in ((0, inf), (-inf, 0.5), (-1, 1))] == ["> 0", "< 0.5", "within -1 and 1"]


def test_a_difference_is_the_mean_over_students(layout):
    """Untrained: 10 of 20 right. SFT: 15 on Tiny-S, 11 on Tiny-M: +25 and +5 points, +15 on average."""
    for student, right in zip(STUDENTS, (15, 11), strict=True):
        put(layout, student, "none", "origin", 10)
        put(layout, student, **HARD, right=right)
    result = test(layout, test="difference", a=HARD, direction="greater")
    found = result.finding
    assert found.effect == pytest.approx(15)
    assert [(p.name, round(p.effect, 6)) for p in found.parts] == [("Tiny-S", 25), ("Tiny-M", 5)]
    assert found.low < 15 < found.high
    assert (result.verdict, found.n, found.unit) == ("supported", 2 * 13 * 20, "points")
    assert found.p == pytest.approx(2 / 2001) == result.p_holm
    assert test(layout, test="difference", a=HARD, direction="less").verdict == "contradicted"
    assert test(layout, test="difference", a={}, direction="less").verdict == "inconclusive"


def test_columns_are_a_domains_average(layout):
    """15 right on one of three general benchmarks, else 10: +25 / 3 general, 0 safety, +25 / 13 overall."""
    name = layout.scale.domain_benchmarks("general")[0]
    for student in STUDENTS:
        put(layout, student, "none", "origin", 10)
        put(layout, student, **HARD, right=10, **{name: 15})
    effects = {
        columns: test(layout, test="difference", a=HARD, columns=columns, direction="greater").finding.effect
        for columns in ("general", "safety", "overall")
    }
    assert effects == pytest.approx({"general": 25 / 3, "safety": 0, "overall": 25 / 13})


def test_retention_counts_what_was_right_before(layout):
    """Of 10 right before, SFT still has 8, GDPO all 10 and 5 new ones: 100 - 80 = 20 points more retained."""
    for student in STUDENTS:
        put(layout, student, "none", "origin", 10)
        put(layout, student, **HARD, right=8)
        put(layout, student, **META, right=15)
    result = test(layout, test="difference", a=META, b=HARD, of="retained", direction="greater")
    assert result.finding.effect == pytest.approx(20)
    assert result.verdict == "supported"


def test_equivalence_needs_the_whole_interval_within_the_margin(layout):
    for student in STUDENTS:
        put(layout, student, "metakl", "grpo", 10)
        put(layout, student, **META, right=10)
    same = {"test": "equivalence", "a": META, "b": {"trainset": "metakl", "method": "grpo"}, "margin": 1}
    assert test(layout, **same).verdict == "supported"
    for student in STUDENTS:
        put(layout, student, **META, right=11)
    five = test(layout, **same)
    assert five.finding.effect == pytest.approx(5)
    assert five.verdict == "contradicted"
    assert test(layout, **same | {"margin": 5}).verdict == "inconclusive"


def test_best_is_the_margin_over_the_best_other(layout):
    """GDPO 15 right, untrained 10, SFT 14: ahead by 25 and 5 points, so by 5."""
    for student in STUDENTS:
        put(layout, student, "none", "origin", 10)
        put(layout, student, **HARD, right=14)
        put(layout, student, **META, right=15)
    result = test(layout, test="best", a=META, others=[{}, HARD])
    assert result.finding.effect == pytest.approx(5)
    assert [round(p.effect) for p in result.finding.parts] == [25, 5]
    assert [p.name for p in result.finding.parts] == ["minus Origin", "minus SFT on hard-only"]
    assert result.verdict == "supported"
    assert test(layout, test="best", a=HARD, others=[{}, META]).verdict == "contradicted"


def test_best_p_value_is_of_the_others_that_are_better(layout):
    """GDPO 14 right, untrained 4, SFT 15 on one benchmark of 13 and else 14: the clear lead must not lend its p."""
    name = next(iter(layout.scale.benchmarks))
    for student in STUDENTS:
        put(layout, student, "none", "origin", 4)
        put(layout, student, **HARD, right=14, **{name: 15})
        put(layout, student, **META, right=14)
    result = test(layout, test="best", a=META, others=[{}, HARD])
    assert result.verdict == "inconclusive"
    assert result.finding.p > 0.5


def test_best_among_equals_is_not_contradicted():
    """Six others level in truth: the smallest of six redraws is below 0 nearly always, its interval must not be."""
    import numpy as np

    from gdpo.report.claims.score_tests import minimum_interval

    draws = list(np.random.default_rng(0).normal(size=(6, 20000)))
    low, high = minimum_interval(draws)
    assert np.quantile(np.min(draws, axis=0), 0.975) < 0.1
    assert (low, high) == (pytest.approx(-1.96, abs=0.06), pytest.approx(2.64, abs=0.1))


def test_retained_is_the_largest_fall_of_a_benchmark(layout):
    """One of 13 benchmarks falls from 10 to 2 of 20 right, on Tiny-M alone: the largest fall is 40 points."""
    name = next(iter(layout.scale.benchmarks))
    for student in STUDENTS:
        put(layout, student, "none", "origin", 10)
        put(layout, student, **META, right=10, **({name: 2} if student == "tiny-m" else {}))
    result = test(layout, test="retained", a=META, margin=5)
    assert result.finding.effect == pytest.approx(-40)
    assert result.verdict == "contradicted"
    assert result.note == "1 of 26 benchmarks significantly worse (Holm)"
    put(layout, "tiny-m", **META, right=12)
    better = test(layout, test="retained", a=META, margin=5)
    assert (better.verdict, better.finding.effect) == ("supported", 0)


def test_interaction_is_a_difference_between_student_sets(layout):
    """Tiny-M, the large one, loses 1 of 20 and Tiny-S 6: -5 less -30 is 25 points less lost."""
    for student, right in zip(STUDENTS, (4, 9), strict=True):
        put(layout, student, "none", "origin", 10)
        put(layout, student, **HARD, right=right)
    result = test(layout, test="interaction", a=HARD, students="large", against="main", direction="greater")
    assert result.finding.effect == pytest.approx(25)
    assert [p.name for p in result.finding.parts] == ["Tiny-M", "Tiny-S"]
    assert result.verdict == "supported"


TREND = {"test": "trend", "study": "train_size", "direction": "greater"}


def test_trend_is_in_points_per_doubling(layout):
    """2, 4, 8, 16, 32 questions; 10, 11, 12, 13, 14 of 20 right: one item, 5 points, a doubling."""
    rows = [{"row": f"1/{2**k}", "trainset": name, "method": "gdpo"} for k, name in enumerate(reversed(SETS))]
    layout = with_study(layout, rows)
    for k, name in enumerate(SETS):
        put(layout, "tiny-m", name, "gdpo", 10 + k)
        write_jsonl(layout.trainset(name), [{"id": str(i)} for i in range(2 ** (k + 1))])
    for x in ("questions", "title"):
        result = test(layout, **TREND, x=x)
        assert result.finding.effect == pytest.approx(5)
        assert (result.finding.unit, result.verdict) == ("points a doubling", "supported")
    assert test(layout, **TREND | {"direction": "less"}, x="title").verdict == "contradicted"


SETS = ["hard-only", "safety-only", "union", "hard-mixed", "metakl"]


def with_study(layout, rows):
    scale = layout.scale
    study = type(load_scale("tiny").studies["train_size"]).model_validate({"rows": rows})
    sets = {"student_sets": {**scale.student_sets, "study": ["tiny-m"]}, "studies": {"train_size": study}}
    return Layout(scale.model_copy(update=sets))


def test_a_trend_needs_numbers_and_three_points(layout):
    row = {"trainset": "metakl", "method": "gdpo"}
    put(layout, "tiny-m", **row, right=10)
    many = with_study(layout, [{"row": "many", **row}])
    with refused(key="studies.train_size.rows", found="the row 'many'", expected="a number as title"):
        test(many, **TREND, x="title")
    same = with_study(layout, [{"row": title, **row} for title in ("2", "4", "4")])
    assert test(same, **TREND, x="title").note == "fewer than 3 different values of x have scores"


def test_correlations_of_proficiency(layout):
    """Models right on questions 1100 and 1010, 25 times over: uncorrelated; each with their mean by sqrt(1/2)."""
    rows = [
        {"id": f"{i}{a}{b}", "tiny-s": a, "tiny-m": b, "average": (a + b) / 2, "strict": float(a * b)}
        for i in range(25)
        for a in (0, 1)
        for b in (0, 1)
    ]
    write_csv(layout.proficiency, list(rows[0]), rows)
    weak = test(layout, test="correlation", between="models", below=0.5)
    assert weak.finding.effect == pytest.approx(0)
    assert weak.finding.high == pytest.approx(0.2, abs=0.05)  # 1.96 / sqrt(100)
    assert (weak.verdict, weak.finding.n) == ("supported", 100)
    average = test(layout, test="correlation", between="average", above=0.72, below=0.77)
    assert average.finding.effect == pytest.approx(sqrt(0.5))
    assert average.verdict == "inconclusive"
    # strict is 1 on a quarter: cov = 1/4 - 1/8, variances 1/8 and 3/16
    strict = test(layout, test="correlation", between="strict", above=0.5)
    assert strict.finding.effect == pytest.approx((1 / 8) / sqrt(1 / 8 * 3 / 16))
    five = test(layout, test="correlation", between="average", models=5, above=0.72)
    assert (five.verdict, five.note) == ("not testable", "it is about 5 base models, scale tiny has 2")


GRPO = {"trainset": "metakl", "method": "grpo"}
RATIO = {"test": "measure", "a": META, "b": GRPO}


def log(layout, student, method, seed, **found):
    write_json(layout.run(Run(student, "metakl", method, seed)) / "train.json", found)


def test_measured_ratios_span_runs(layout):
    """GDPO 10 s to GRPO's 20 and 40 on every student: ratios 1/2 and 1/4, mean 0.375; no completion to 100."""
    for student in STUDENTS:
        for seed, seconds in zip(layout.scale.seeds, (20, 40), strict=True):
            log(layout, student, "gdpo", seed, seconds=10, completions=0)
            log(layout, student, "grpo", seed, seconds=seconds, completions=100)
    result = test(layout, **RATIO, quantity="seconds")
    found = result.finding
    assert (found.effect, found.low, found.high, found.n) == (0.375, 0.25, 0.5, 4)
    assert (found.parts[0].name, result.verdict) == ("Tiny-S, seed 0", "supported")
    assert test(layout, **RATIO, quantity="completions").finding.effect == 0
    record = layout.responses("metakl").with_name("metakl.jsonl.provenance.json")
    assert test(layout, **RATIO, quantity="seconds_with_teacher").verdict == "not testable"
    write_json(record, {"wall_seconds": 90})  # (10 + 90) / 20 and / 40
    taught = test(layout, **RATIO, quantity="seconds_with_teacher")
    assert (taught.finding.low, taught.finding.high, taught.verdict) == (2.5, 5.0, "contradicted")


def test_one_run_alone_has_no_interval(layout):
    log(layout, "tiny-s", "gdpo", 0, memory_mb={"before": 100, "peak": 150})
    log(layout, "tiny-s", "grpo", 0, memory_mb={"before": 100, "peak": 200})
    result = test(layout, **RATIO, quantity="memory")
    assert result.finding.effect == 0.5
    assert (result.verdict, result.note) == ("inconclusive", "one run alone: no interval")
    assert test(layout, **RATIO, quantity="seconds").note == "no two runs have a measured seconds to compare"


def test_time_to_an_equal_reward(layout):
    """Both start at 0; the smaller best gain is 1, so the reward is 0.9: at 9 s along a line to 10 s, and at 36 s."""
    for student in STUDENTS:
        for method, last in (("gdpo", 10), ("grpo", 40)):
            ends = [{"step": 0, "seconds": 0.0, "reward": 0.0}, {"step": 9, "seconds": float(last), "reward": 1.0}]
            log(layout, student, method, 0, watch=ends)
            log(layout, student, method, 1, watch=ends)
    result = test(layout, **RATIO, quantity="seconds_to_reward")
    assert (result.finding.effect, result.finding.n) == (pytest.approx(0.25), 4)


@pytest.mark.parametrize(
    "late, low, high, verdict", [("gdpo", 0.25, inf, "inconclusive"), ("grpo", 0, 0.25, "supported")]
)
def test_run_that_never_reaches_the_reward_widens_the_interval(layout, late, low, high, verdict):
    """As above, but one method's second seed gains nothing: its mean best gain is 1/2, the reward 0.45, and the ratio
    of the first seeds (4.5 s over 18 s) is 1/4 still."""
    for student in STUDENTS:
        for method, last in (("gdpo", 10), ("grpo", 40)):
            for seed in layout.scale.seeds:
                gain = 0.0 if (method, seed) == (late, 1) else 1.0
                ends = [{"step": 0, "seconds": 0.0, "reward": 0.0}, {"step": 9, "seconds": float(last), "reward": gain}]
                log(layout, student, method, seed, watch=ends)
    result = test(layout, **RATIO, quantity="seconds_to_reward")
    found = result.finding
    assert (found.effect, found.low, found.high, found.n) == (pytest.approx(0.25), pytest.approx(low), high, 2)
    assert result.verdict == verdict
    assert result.note == "2 more pairs of runs of which one alone never has it"


def test_noise_allows_the_widest_ratio(layout):
    """2 [1, 3] over 8 [4, 12]: 0.25, between 1/12 and 3/4."""
    for student in STUDENTS:
        for method, noise in (("gdpo", (2, 1, 3)), ("grpo", (8, 4, 12))):
            keys = dict(zip(("noise", "noise_low", "noise_high"), noise, strict=True))
            write_json(layout.noise(student, "metakl", method), keys)
    result = test(layout, **RATIO, quantity="noise")
    assert (result.finding.effect, result.finding.low, result.finding.high) == (0.25, pytest.approx(1 / 12), 0.75)
    assert result.verdict == "supported"
    for student in STUDENTS:  # too few groups to measure it
        write_json(layout.noise(student, "metakl", "gdpo"), {"noise": None, "why": "w"})
    assert test(layout, **RATIO, quantity="noise").note == "no two runs have a measured noise to compare"


def test_claim_about_missing_rows_is_not_testable(layout):
    scale = layout.scale
    none = {"test": "difference", "a": HARD, "direction": "less"}
    assert test(layout, **none).note == "no student has scores of all overall columns"
    assert test(layout, **none, students="instruct2").note == "scale tiny has no student set 'instruct2'"
    lost = Layout(scale.model_copy(update={"tables": {}, "studies": {}}))
    assert test(lost, **none).note == "no table of scale tiny has sft on hard-only for Tiny-S"
    assert test(lost, **TREND, x="title").note == "scale tiny has no study 'train_size'"
    alone = Layout(scale.model_copy(update={"student_sets": {"large": list(scale.students)}}))
    across = {"test": "interaction", "a": HARD, "students": "large", "against": "main", "direction": "greater"}
    assert test(alone, **across).note == "scale tiny has no student in 'main' beside those in 'large'"


def test_a_student_without_a_column_is_left_out_and_named(layout):
    for student in STUDENTS:
        put(layout, student, "none", "origin", 10)
        put(layout, student, **HARD, right=15)
    name = next(iter(layout.scale.benchmarks))
    (layout.samples(Run("tiny-s", **HARD, seed=0), "test") / f"{name}.jsonl").unlink()
    result = test(layout, test="difference", a=HARD, direction="greater")
    assert (result.note, len(result.finding.parts)) == ("without Tiny-S: a column was dropped", 1)
    put(layout, "tiny-s", "none", "origin", 10, **{name: 0})
    put(layout, "tiny-s", **HARD, right=15)
    kept = {"test": "difference", "a": HARD, "b": {}, "of": "retained", "direction": "less"}
    assert test(layout, **kept).note == "without Tiny-S: a column was dropped or had nothing right before"
