"""Claims as tests: effects worked by hand on samples written by hand, the rule, and what a scale cannot say."""

from __future__ import annotations

import re
import subprocess
import sys
from math import inf, sqrt
from pathlib import Path

import pytest
import yaml

from gdpo.config import load_scale
from gdpo.errors import UserError
from gdpo.files import read_csv, write_csv, write_json, write_jsonl
from gdpo.layout import Layout, Run
from gdpo.report import claims
from gdpo.report.claims.rule import judge, shown_range
from gdpo.report.claims.schema import Claims

SCALES = ("micro", "tiny", "smol", "paper")
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
    ],
)
def test_the_rule(low, high, claimed, verdict):
    assert judge(low, high, claimed) == verdict


def test_the_rule_where_only_a_range_of_its_own_refutes():
    """No benchmark falls, margin 5: surely fallen refutes, even by less than 5; between is open."""
    claimed, refuted = (-5, inf), (-inf, 0)
    assert judge(-4, -1, claimed, refuted) == "contradicted"
    assert judge(-4, 1, claimed, refuted) == "supported"
    assert judge(-6, 1, claimed, refuted) == "inconclusive"
    assert [shown_range(r) for r in ((0, inf), (-inf, 0.5), (-1, 1))] == ["> 0", "< 0.5", "within -1 and 1"]


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


def test_many_equals_do_not_contradict_the_best():
    """Six others level in truth: the smallest of six redraws is below 0 nearly always, its interval must not be."""
    import numpy as np

    from gdpo.report.claims.scored import extreme

    draws = list(np.random.default_rng(0).normal(size=(6, 20000)))
    low, high = extreme(draws)
    assert np.quantile(np.min(draws, axis=0), 0.975) < 0.1
    assert (low, high) == (pytest.approx(-1.96, abs=0.06), pytest.approx(2.64, abs=0.1))


def test_no_benchmark_falls(layout):
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


def test_an_interaction_compares_students(layout):
    """Tiny-M, the large one, loses 1 of 20 and Tiny-S 6: -5 less -30 is 25 points less lost."""
    for student, right in zip(STUDENTS, (4, 9), strict=True):
        put(layout, student, "none", "origin", 10)
        put(layout, student, **HARD, right=right)
    result = test(layout, test="interaction", a=HARD, students="large", against="main", direction="greater")
    assert result.finding.effect == pytest.approx(25)
    assert [p.name for p in result.finding.parts] == ["Tiny-M", "Tiny-S"]
    assert result.verdict == "supported"


TREND = {"test": "trend", "study": "train_size", "direction": "greater"}


def test_a_trend_is_points_a_doubling(layout):
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
    with pytest.raises(UserError, match=r"studies\.train_size\.rows: found the row 'many', expected a number as title"):
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


def test_noise_allows_the_widest_ratio(layout):
    """2 [1, 3] over 8 [4, 12]: 0.25, between 1/12 and 3/4."""
    for student in STUDENTS:
        for method, noise in (("gdpo", (2, 1, 3)), ("grpo", (8, 4, 12))):
            keys = dict(zip(("noise", "noise_low", "noise_high"), noise, strict=True))
            write_json(layout.noise(student, "metakl", method), keys)
    result = test(layout, **RATIO, quantity="noise")
    assert (result.finding.effect, result.finding.low, result.finding.high) == (0.25, pytest.approx(1 / 12), 0.75)
    assert result.verdict == "supported"


def test_what_a_scale_lacks_is_not_testable(layout):
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


def refused(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        claims.load(load_scale("tiny"), path)
    return str(error.value).removeprefix(f"{path}, ")


def test_mistakes_are_named_in_one_sentence(tmp_path):
    start = "x: {statement: s, source: T, test: difference, direction: less, a: {trainset: metakl, method: "
    assert refused(tmp_path, f"{start}gdppo}}}}").startswith("x.method: found 'gdppo'; did you mean 'gdpo'? known: ")
    assert refused(tmp_path, f"{start}gdpo}}, students: larg}}").startswith(
        "x.students: found 'larg'; did you mean 'large'? known: "
    )
    assert "colums: unknown key" in refused(tmp_path, f"{start}gdpo}}, colums: math}}")
    assert "reading" in refused(tmp_path, "x: {statement: s, source: T, test: retained, a: {}, margin: 5}")
    derived = "x: {statement: s, source: T, test: derived, proof: p, below: 0, value: "
    assert "value: expected one of adjacent_error" in refused(tmp_path, f"{derived}nothing}}")
    unbound = "x: {statement: s, source: T, test: correlation, between: models}"
    assert "expected 'above', 'below' or both" in refused(tmp_path, unbound)


@pytest.mark.parametrize("scale", SCALES)
def test_the_papers_claims_ask_for_no_run_but_the_tables(scale):
    layout = Layout(load_scale(scale))
    selections = [*layout.scale.tables.values(), *(s for s in layout.scale.studies.values() if not s.grid)]
    shown = {run for selection in selections for run in layout.selected_runs(selection)}
    stated = claims.load(layout.scale)
    for claim in stated.values():
        try:
            assert set(claims.about.runs(layout, claim)) <= shown
        except claims.NotTestable:
            continue
    files = claims.inputs(layout)
    assert len(files) == len(set(files)) > 50
    assert layout.proficiency in files


def test_the_claims_themselves(layout):
    """Statements and sources are there, each proof is a test, and each id is written once."""
    stated = claims.load(layout.scale)
    tests = (Path(__file__).parents[1] / "test_objective.py").read_text()
    for claim in stated.values():
        assert claim.statement[0].isupper() and not claim.statement.endswith(".")
        if claim.test == "derived":
            assert f"def {claim.proof}(" in tests
    assert len(re.findall(r"^[a-z][\w-]*:", claims.PATH.read_text(), re.M)) == len(stated)
    assert {c.test for c in stated.values()} == {
        "difference", "equivalence", "best", "retained", "interaction", "correlation", "trend", "measure", "derived",
    }  # fmt: skip


def test_every_claim_gets_a_row_and_a_place_on_the_page(layout):
    """With nothing trained, only mathematics has a verdict: the rest is not testable and says why."""
    stated = claims.load(layout.scale)
    write_csv(layout.proficiency, ["id", "tiny-s", "tiny-m", "average", "strict"], [])
    del stated["proficiency-differs-by-model"]
    found = claims.results(layout, stated)
    by_test = {(r.claim.test == "derived", r.verdict) for r in found}
    assert by_test == {(True, "supported"), (True, "contradicted"), (False, "not testable")}
    rows = claims.rows(found)
    write_csv("claims.csv", claims.COLUMNS, rows)
    assert [row["id"] for row in read_csv("claims.csv")] == list(stated)
    assert all(row["note"] for row in rows if row["verdict"] == "not testable")
    page = claims.markdown(layout.scale, found)
    assert all(f"**{name}**" in page for name in stated)
    assert "supported: the whole interval lies on that side" in page


def test_published_numbers_of_a_claim():
    """A7+A8, recomputed: GDPO 80.86 and GRPO 80.25 overall; SFT's math 63.40 to Origin's 79.16."""
    from gdpo.report.claims import printed
    from gdpo.report.published import published

    rows, stated = published(), claims.load(load_scale("tiny"))
    effects = {name: printed.effect(stated[name], rows) for name in stated}
    assert effects["gdpo-close-to-grpo"] == pytest.approx(0.61, abs=0.005)
    assert effects["gdpo-best-method"] == pytest.approx(0.61, abs=0.005)
    assert effects["sft-metakl-loses-math"] == pytest.approx(63.40 - 79.16, abs=0.01)
    assert effects["metagdpo-spares-instruct"] == pytest.approx(76.2 - 95.79)
    assert effects["rises-with-group-size"] is None
    bad = stated["sft-metakl-loses-math"].model_copy(update={"printed": printed.Rows(table="A7+A8", a="STF")})
    with pytest.raises(UserError, match="found 'STF'; did you mean 'SFT'"):
        printed.effect(bad, rows)


def test_reports_import_no_model_library():
    code = "import sys, gdpo.report.claims, gdpo.report.claims.scored, gdpo.report.claims.measured, gdpo.report.cost;"
    code += "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'matplotlib', 'sklearn', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_settings_follow_what_is_claimed_and_how_it_is_named(layout):
    from gdpo.config import fingerprint

    scale = layout.scale
    key = fingerprint(claims.settings(scale))
    assert key == fingerprint(claims.settings(scale))
    renamed = {n: m.model_copy(update={"display": "X"}) for n, m in scale.models.items()}
    changes = ({"models": renamed}, {"bootstrap_draws": 5}, {"student_sets": {}})
    assert all(fingerprint(claims.settings(scale.model_copy(update=change))) != key for change in changes)


def test_the_page_repeats_the_rule_of_the_file():
    assert claims.rule()[0].startswith("The paper's claims as tests")
    assert yaml.safe_load(claims.PATH.read_text())
