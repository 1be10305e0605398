"""Figures: their numbers worked by hand on a few files, their bytes, and what asking for one may find."""

from __future__ import annotations

import struct
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml

from gdpo.config.figures import Curve, Retention
from gdpo.config.layout import Layout, Run
from gdpo.config.loader import load_scale
from gdpo.core.files import read_csv, write_csv, write_json, write_jsonl, write_text
from gdpo.core.hashing import fingerprint
from gdpo.core.project import CONFIG
from gdpo.core.provenance import provenance_path
from gdpo.report import figures, numbers
from gdpo.report.figures import (
    compute,
    curve,
    embedding,
    group_size,
    lengths,
    proficiency,
    retention,
    reward_time,
    reward_units,
    settings,
    style,
    tradeoff,
    train_size,
)
from gdpo.report.steps import figure
from tests.refusal import refused
from tests.seeded import two_seeds

SHOWN = SimpleNamespace(**settings.load().figures)


@pytest.fixture
def layout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Layout(two_seeds())


def question(number: int, units: list[str], text: str = "a b c") -> dict:
    about = {"id": f"q{number}", "domain": "math", "source": "s", "question": text, "answer": "1", "grader": "exact"}
    return about | {"units": units}


def group(number: int, rewards: list[float], completions: list[str] | None = None) -> dict:
    made = {"id": f"q{number}", "domain": "math", "prompt": [{"role": "user", "content": "a"}], "rewards": rewards}
    return made | {"completions": completions or ["x"] * len(rewards)}


def write_samples(layout: Layout, run: Run, right: range, split="test") -> None:
    """Every benchmark's 20 items, those in `right` right."""
    for name in layout.scale.benchmarks:
        rows = ({"id": str(i), "verdict": "right" if i in right else "wrong"} for i in range(20))
        write_jsonl(layout.samples(run, split) / f"{name}.jsonl", rows)


def write_sets(layout: Layout) -> None:
    """A pool of six questions over four units; every training set has the first three, of two combinations."""
    pool = [question(i, units) for i, units in enumerate([["a_b"], ["a_b"], ["a_b", "c"], ["c"], ["d"], []])]
    write_jsonl(layout.annotated, pool)
    for name in ("hard-only", "safety-only", "union", "metakl"):
        write_jsonl(layout.trainset(name), [*pool[:2], question(2, ["a_b", "c"], "one two three four five")])
        write_jsonl(layout.groups(name), [group(0, [1, 2], ["x", "y z"]), group(1, [2, 2]), group(2, [0, 1])])


def write_watched(layout: Layout) -> None:
    """Seed 0 of every watched run is rewarded 1.0 then 1.4, seed 1 1.0 then 1.6, after 10 and 14 seconds."""
    for run in layout.selected_runs(layout.scale.tables["tableA3"]):
        watch = [
            {"step": 0, "seconds": 0.0, "completions": 0, "reward": 1.0},
            {"step": 5, "seconds": 10.0 + 4 * run.seed, "completions": 40, "reward": 1.4 + 0.2 * run.seed},
        ]
        write_json(layout.run(run) / "train.json", {"seconds": 20.0 + 2 * run.seed, "watch": watch})


def test_correlations_of_two_models_by_hand(layout):
    """1 0 1 0 and 1 0 0 0: covariance 1/8, variances 1/4 and 3/16: r = (1/8) / sqrt(3/64) = 0.5774.
    A model that is always right correlates with nothing."""
    columns = {
        "id": "abcd",
        "tiny-s": [1, 0, 1, 0],
        "tiny-m": [1, 0, 0, 0],
        "average": [1, 0, 0.5, 0],
        "strict": [1] * 4,
    }
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    write_csv(layout.proficiency, list(columns), rows)
    found = {(row["first"], row["second"]): row for row in proficiency.data(layout, SHOWN.proficiency)}
    assert found["Tiny-S", "Tiny-M"]["correlation"] == pytest.approx(0.5774, abs=1e-4)
    assert found["Tiny-S", "Tiny-M"]["low"] < 0.5774 < found["Tiny-S", "Tiny-M"]["high"]
    assert found["Tiny-M", "Tiny-M"]["correlation"] == pytest.approx(1)
    assert found["Tiny-M", "strict"]["correlation"] is None
    assert len(found) == 16


def test_embedding_counts_questions_units_and_combinations(layout):
    """The pool has five questions with units, three units and four combinations; a set covers two of each."""
    write_sets(layout)
    rows = embedding.data(layout, SHOWN.embedding)
    covered = {
        row["set"]: (row["questions"], row["units"], row["combinations"]) for row in rows if row["what"] == "coverage"
    }
    assert covered["pool"] == (5, 3, 4)
    assert covered["MetaKL"] == (3, 2, 2)
    points = {(row["set"], row["units"]): row for row in rows if row["what"] == "point" and row["set"] == "MetaKL"}
    assert points["MetaKL", 1]["questions"] == 2
    assert points["MetaKL", 2]["questions"] == 1
    assert embedding.data(layout, SHOWN.embedding) == rows


def test_questions_that_need_the_same_units_are_one_point():
    assert embedding.terms(("add_up", "c")) == ["add_up", "c", "word add", "word up", "word c"]
    keys = [(f"u{i}", f"u{i + 1}") for i in range(6)]
    assert embedding.sampled(keys, 10, 0) == keys
    few = embedding.sampled(keys, 3, 0)
    assert len(few) == 3
    assert few == embedding.sampled(keys, 3, 0) == sorted(few)


def test_lengths_in_words_without_a_tokenizer(layout):
    """Questions of 3, 3 and 5 words: mean 11/3, median 3. Best completions `y z`, `x`, `x`: mean 4/3."""
    write_sets(layout)
    rows = [row for row in lengths.data(layout, SHOWN.lengths) if row["set"] == "MetaKL"]
    asked, best = rows[:2]
    assert (asked["what"], asked["measure"], asked["n"], asked["median"]) == ("question", "words", 3, 3)
    assert asked["mean"] == pytest.approx(11 / 3)
    assert best["mean"] == pytest.approx(4 / 3)
    units = {row["bin"]: (row["questions"], row["share"]) for row in rows[2:]}
    assert units == {"1": (2, 2 / 3), "2": (1, 1 / 3), "3": (0, 0), "4": (0, 0), "≥5": (0, 0)}


def test_rewards_by_number_of_units(layout):
    """One unit: questions of rewards 1, 2 and 2, 2, so a mean of 7/4, redrawn between 1.5 and 2; two units: one
    question of 0 and 1, mean 1/2, too few to redraw."""
    write_sets(layout)
    rows = reward_units.data(layout, SHOWN.reward_units)
    one, two = (row for row in rows if row["what"] == "mean")
    assert (one["units"], one["questions"], one["completions"], one["reward"]) == ("1", 2, 4, 1.75)
    assert (one["low"], one["high"]) == (1.5, 2.0)
    assert (two["reward"], two["low"]) == (0.5, None)
    bins = [
        (row["units"], round(row["reward"], 6), row["completions"], row["share"])
        for row in rows
        if row["what"] == "bin"
    ]
    assert bins == [("1", 1.0, 1, 0.25), ("1", 2.0, 3, 0.75), ("2", 0.0, 1, 0.5), ("2", 1.0, 1, 0.5)]


def test_group_size_rows_are_ordered_and_have_the_untrained_score(layout):
    """The untrained student has 10 of 20 right. Everything trained has 15, but G = 2 has lost a benchmark's column."""
    runs = layout.selected_runs(layout.scale.studies["group_size"])
    for student in {run.student for run in runs}:
        write_samples(layout, Run(student, "none", "origin", 0), range(10))
    for run in runs:
        write_samples(layout, run, range(5, 20))
        if run.method == "gdpo-g2":
            (layout.samples(run, "test") / "hop.jsonl").unlink()
    rows = group_size.data(layout, SHOWN.group_size)
    math = [row for row in rows if row["average"] == "math"]
    assert [row["x"] for row in math] == sorted(float(cell.row) for cell in layout.scale.studies["group_size"].rows)
    assert {(row["score"], row["origin"]) for row in math} == {(75.0, 50.0)}
    assert all(row["score_low"] < 75 < row["score_high"] for row in math)
    assert [row["average"] for row in rows if row["score"] is None] == ["overall", "general"]
    with style.context():
        group_size.draw(rows, SHOWN.group_size)


def test_group_size_row_must_be_a_number(layout):
    cell = layout.scale.studies["tradeoff"].rows[0]
    with refused(key="studies.group_size", found="row 'SFT'", expected="a number"):
        curve.title_number(cell, SHOWN.group_size)


def test_train_size_counts_the_groups_of_each_set(layout):
    runs = layout.selected_runs(layout.scale.studies["train_size"])
    for run in [*runs, *(Run(run.student, "none", "origin", 0) for run in runs)]:
        write_samples(layout, run, range(10))
    rows = layout.scale.studies["train_size"].rows
    for count, cell in enumerate(rows, start=1):
        write_jsonl(layout.groups(cell.trainset), [group(i, [1, 2]) for i in range(count)])
    found = [(row["row"], row["x"]) for row in train_size.data(layout, SHOWN.train_size) if row["average"] == "overall"]
    assert found == [(cell.row, count) for count, cell in enumerate(rows, start=1)]


def test_gain_and_forgetting_by_hand_and_their_front(layout):
    """The untrained student has items 0-9 of 20 right. At the first rate a run has 2-13: 2 of 20 more are a gain of
    10 points, 2 of 10 forgotten are 20%. At the second it has 5-11: -15 points, 50%. The front is the first rate's."""
    study, rates = layout.scale.studies["tradeoff"], layout.scale.sweep.learning_rates
    for student in layout.scale.student_set(study.students):
        write_samples(layout, Run(student, "none", "origin", 0), range(10), "validation")
    for run in layout.selected_runs(study):
        first = run.method.endswith(f"~{rates[0]:g}")
        write_samples(layout, run, range(2, 14) if first else range(5, 12), "validation")
        write_json(layout.drift(run), {"kl": 0.001 if first else 0.1})
    rows = tradeoff.data(layout, SHOWN.tradeoff)
    near, far = rows[:2]
    assert (near["gain"], near["forgetting"], near["kl"], near["pareto"]) == (
        pytest.approx(10),
        pytest.approx(20),
        0.001,
        1,
    )
    assert (far["gain"], far["forgetting"], far["pareto"]) == (pytest.approx(-15), pytest.approx(50), 0)
    assert near["forgetting_low"] <= 20 <= near["forgetting_high"]
    assert near["gain_low"] <= 10 <= near["gain_high"]
    with style.context():
        tradeoff.draw(rows, SHOWN.tradeoff)
        # Where the untrained student has nothing right in some benchmark, nothing can be forgotten there.
        unknown = {"forgetting": None, "forgetting_low": None, "forgetting_high": None, "pareto": 0}
        style.save(tradeoff.draw([row | unknown for row in rows], SHOWN.tradeoff), layout.figure("tradeoff"), "micro")


def test_pareto_front_has_no_dominated_point():
    points = [(0, 1), (1, 3), (1, 2), (2, 3), (5, 9), (None, 9), (0, 1)]
    assert tradeoff.pareto(points) == [True, True, False, False, True, False, True]


def test_compute_has_training_and_teacher_seconds(layout):
    """Seeds take 20 and 22 seconds, the teacher took 7; GRPO asks no teacher."""
    runs = layout.selected_runs(layout.scale.tables["tableA7"])
    for run in runs:
        write_samples(layout, run, range(5, 20) if not run.is_origin else range(10))
        if not run.is_origin:
            write_json(layout.run(run) / "train.json", {"seconds": 20.0 + 2 * run.seed})
    write_json(provenance_path(layout.responses("metakl")), {"wall_seconds": 7.0})
    rows = {(row["student"], row["row"]): row for row in compute.data(layout, SHOWN.compute)}
    assert len(rows) == 7 * len(layout.scale.student_set(layout.scale.tables["tableA7"].students))
    assert rows["Tiny-S", "SFT"]["seconds"] == 21
    assert (rows["Tiny-S", "SFT"]["score"], rows["Tiny-S", "SFT"]["origin"]) == (75, 50)
    assert rows["Tiny-S", "SFT"]["teacher_seconds"] == 7
    assert rows["Tiny-S", "GRPO"]["teacher_seconds"] == 0
    assert layout.responses("metakl") in compute.inputs(layout, SHOWN.compute)


def test_part_of_a_set_has_the_whole_sets_teacher_seconds(layout):
    cell = layout.scale.studies["train_size"].rows[0]
    assert layout.response_file(cell) == layout.responses("metakl")
    assert layout.response_file(Run("tiny-s", "metakl-half", "gdpo~0.001", 100)) == layout.responses("metakl")
    assert layout.response_file(Run("tiny-s", "metakl", "grpo", 0)) is None
    assert layout.response_file(Run("tiny-s", "metakl-noisy", "sft", 0)) == layout.responses("metakl-noisy")


OWN = {"title": "T", "caption": "C", "width": "column", "height": 2}


def own_scale(directory, **figures_of_it):
    """micro with figures of its own."""
    path = directory / "own.yaml"
    path.write_text(yaml.safe_dump({"extends": "micro", "figures": figures_of_it}))
    return load_scale(path)


def test_retention_and_score_of_a_tables_rows_by_hand(layout):
    """The untrained student has items 0-9 of 20 right: 50%. A run with 5-19 has 75%, and kept 5 of the 10."""
    runs = layout.selected_runs(layout.scale.tables["table2"])
    for run in runs:
        write_samples(layout, run, range(10) if run.is_origin else range(5, 20))
    shown = Retention(kind="retention", table="table2", **OWN)
    rows = retention.data(layout, shown)
    assert len(rows) == 5 * len(layout.scale.students)
    assert {(row["score"], row["retention"], row["origin"]) for row in rows} == {(75, 50, 50)}
    assert all(row["retention_low"] < 50 < row["retention_high"] for row in rows)
    assert set(layout.scored(runs)) == set(retention.inputs(layout, shown))
    with style.context():
        assert len(retention.draw(rows, shown).axes) == len(layout.scale.students)


def test_curve_of_a_scales_own_study_is_drawn_with_its_label(layout):
    shown = Curve(kind="curve", study="group_size", label="completions", log=True, **OWN)
    for run in layout.selected_runs(layout.scale.studies["group_size"]):
        write_samples(layout, run, range(10))
        write_samples(layout, Run(run.student, "none", "origin", 0), range(10))
    rows = curve.data(layout, shown)
    with style.context():
        axes = curve.draw(rows, shown).axes[0]
    assert (axes.get_xlabel(), axes.get_xscale()) == ("completions", "log")


def test_figure_of_a_scale_is_listed_behind_the_shared_ones_or_in_place_of_one(tmp_path):
    scale = own_scale(
        tmp_path, mine={"kind": "retention", "table": "table2", **OWN}, compute={"table": "table2", **OWN}
    )
    assert figures.names(scale) == [*figures.names(load_scale("micro")), "mine"]
    assert settings.known(scale)["compute"].table == "table2"
    assert figures.drawn(scale, "mine")[1] == {"kind": "retention", "table": "table2", "width": "column", "height": 2}
    assert numbers.figures(scale)["mine"] == {"title": "T", "caption": "C", "width": "column"}


@pytest.mark.parametrize(
    ("entry", "fields"),
    [
        ({"kind": "retentoin", "table": "table2"}, {"key": "figures.mine.kind", "hint": "did you mean 'retention'?"}),
        ({"table": "table2"}, {"key": "figures.mine.kind", "found": "'mine'", "expected": "'retention'"}),
        ({"kind": "retention", "table": "tabel2"}, {"key": "figures.mine.table", "hint": "did you mean 'table2'"}),
        ({"kind": "curve", "study": "g", "label": "G"}, {"key": "figures.mine.study", "found": "'g'"}),
        ({"kind": "retention", "tabel": "table2"}, {"key": "figures.mine.tabel", "hint": "did you mean 'table'"}),
        ({"kind": "reward_units", "trainset": "m", "most_units": 5, "bin": 1}, {"key": "figures.mine.trainset"}),
    ],
)
def test_figure_of_a_scale_that_does_not_fit_is_refused(tmp_path, entry, fields):
    with refused(path=str(tmp_path / "own.yaml"), **fields):
        own_scale(tmp_path, mine=entry | OWN)


def test_reward_over_time_averages_seeds_at_the_same_step(layout):
    """After step 5: seconds (10 + 14) / 2, reward (1.4 + 1.6) / 2, from 1.4 to 1.6."""
    write_watched(layout)
    start, end = reward_time.data(layout, SHOWN.reward_time)[:2]
    assert (start["step"], start["seconds"], start["reward"]) == (0, 0, 1)
    assert (end["step"], end["seconds"], end["completions"], end["seeds"]) == (5, 12, 40, 2)
    assert (end["reward"], end["low"], end["high"]) == pytest.approx((1.5, 1.4, 1.6))


def test_seconds_axis_is_logarithmic_for_unlike_runs(layout):
    write_watched(layout)
    rows = reward_time.data(layout, SHOWN.reward_time)
    with style.context():
        assert reward_time.draw(rows, SHOWN.reward_time).axes[0].get_xscale() == "linear"
        slow = [row | {"seconds": 20 * row["seconds"]} if row["row"] == "GRPO" else row for row in rows]
        assert reward_time.draw(slow, SHOWN.reward_time).axes[0].get_xscale() == "log"


def test_figures_can_be_drawn_from_one_seed(layout):
    layout = Layout(layout.scale.model_copy(update={"seeds": [0]}))
    write_watched(layout)
    row = reward_time.data(layout, SHOWN.reward_time)[1]
    assert (row["seeds"], row["low"], row["high"]) == (1, 1.4, 1.4)


@pytest.mark.parametrize("name", ["embedding", "lengths", "reward_units", "reward_time"])
def test_figure_files_are_deterministic(layout, name):
    write_sets(layout)
    write_watched(layout)
    figure(layout.scale, name)
    paths = [layout.figure(name).with_suffix(end) for end in (".pdf", ".png", ".csv")]
    before = [path.read_bytes() for path in paths]
    assert b"CreationDate" not in before[0]
    assert b"/Type3" not in before[0]
    assert b"Matplotlib" not in before[1]
    assert provenance_path(paths[2]).exists()
    for path in paths:
        path.unlink()
    figure(layout.scale, name)
    assert [path.read_bytes() for path in paths] == before
    assert len(read_csv(paths[2])) == len(
        figures._module(settings.load().figures[name]).data(layout, settings.load().figures[name])
    )


def test_figure_names_its_scale_below_the_axes(layout, monkeypatch):
    """The strip is 1.5 letters high, and hides nothing of the figure above it, which stays as large as it was."""
    layout = Layout(load_scale("micro", 8))
    write_sets(layout)
    drawn = []
    monkeypatch.setattr(lengths, "draw", lambda *given, draw=lengths.draw: drawn.append(draw(*given)) or drawn[-1])
    figure(layout.scale, "lengths")
    look = settings.load().style
    [footer] = drawn[0].texts
    assert footer.get_text() == "scale micro-limit8"
    drawn[0].draw_without_rendering()  # at its own resolution again
    assert footer.get_window_extent().y1 <= 0 <= footer.get_window_extent().x0
    columns, rows = struct.unpack(">II", layout.figure("lengths").with_suffix(".png").read_bytes()[16:24])
    width, height = drawn[0].get_size_inches()
    assert columns == pytest.approx(width * look.dpi, abs=1)
    assert rows == pytest.approx((height + 1.5 * look.small_font_size / 72) * look.dpi, abs=1)


def test_font_size_in_print_is_at_least_seven_points(layout):
    """Figures are drawn as wide as they are printed, so their type is the printed one."""
    write_sets(layout)
    with style.context():
        canvas = lengths.draw(lengths.data(layout, SHOWN.lengths), SHOWN.lengths)
        canvas.draw_without_rendering()
    from matplotlib.text import Text

    texts = [text for text in canvas.findobj(Text) if text.get_text() and text.get_visible()]
    assert len(texts) > 20
    assert min(text.get_fontsize() for text in texts) >= 7
    assert canvas.get_figwidth() == settings.load().style.widths["page"]


def test_misspelt_figure_is_refused(layout):
    with refused(found="'embeding'", hint="did you mean 'embedding'"):
        figure(layout.scale, "embeding")
    with refused(hint="did you mean 'tradeoff'"):
        figures.inputs(layout, "tradeof")
    assert not layout.root.exists()


def test_a_scale_has_the_figures_that_its_configuration_allows():
    scale = load_scale("micro")
    assert figures.names(scale) == list(settings.load().figures)
    alone = scale.proficiency.model_copy(update={"models": ["tiny-s"]})
    tables = {"tableA3": scale.tables["tableA3"].model_copy(update={"kind": "scores"})}
    bare = scale.model_copy(update={"proficiency": alone, "studies": {}, "tables": tables})
    assert figures.names(bare) == ["reward_units"]
    unvalidated = {key: b.model_copy(update={"validation_items": 0}) for key, b in scale.benchmarks.items()}
    left = figures.names(scale.model_copy(update={"benchmarks": unvalidated}))
    assert [name for name in settings.load().figures if name not in left] == ["tradeoff", "reward_time"]
    assert all(figures.inputs(Layout(scale), name) for name in settings.load().figures)


def test_a_colour_or_a_row_changes_a_figures_settings_and_a_caption_does_not(monkeypatch):
    scale, kept = load_scale("micro"), settings.load()
    before = fingerprint(figures.drawn(scale, "lengths"))
    repainted = kept.model_copy(update={"style": kept.style.model_copy(update={"muted": "#ABCDEF"})})
    reworded = kept.figures["lengths"].model_copy(update={"caption": "other words"})
    with monkeypatch.context() as patch:
        patch.setattr(settings, "load", lambda: repainted)
        assert fingerprint(figures.drawn(scale, "lengths")) != before
    renamed = scale.model_copy(update={"figures": {"lengths": reworded}})
    assert fingerprint(figures.drawn(renamed, "lengths")) == before
    fewer = scale.tables["table1"].model_copy(update={"rows": scale.tables["table1"].rows[:3]})
    changed = scale.model_copy(update={"tables": scale.tables | {"table1": fewer}})
    assert fingerprint(figures.drawn(changed, "lengths")) != fingerprint(figures.drawn(scale, "lengths"))
    assert fingerprint(figures.drawn(changed, "tradeoff")) == fingerprint(figures.drawn(scale, "tradeoff"))


@pytest.mark.parametrize(
    ("old", "new", "fields"),
    [
        ("perplexity:", "perplexty:", {"key": "figures.embedding.perplex"}),
        ('muted: "#C8C8C8"', "muted: grey", {"key": "style.muted", "found": "grey"}),
        ("small_font_size: 7", "small_font_size: 6", {"key": "style.small_font_size", "found": "6"}),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, old, new, fields):
    text = (CONFIG / "figures.yaml").read_text()
    assert old in text
    write_text(tmp_path / "figures.yaml", text.replace(old, new))
    with refused(path=tmp_path / "figures.yaml", **fields):
        settings.load(tmp_path / "figures.yaml")


def test_listing_figures_and_inputs_loads_no_drawing_library():
    code = (
        "import sys; from gdpo.config.loader import load_scale; from gdpo.config.layout import Layout\n"
        "from gdpo.report import figures\n"
        "layout = Layout(load_scale('micro'))\n"
        "[figures.inputs(layout, name) for name in figures.names(layout.scale)]\n"
        "print(*(m for m in ('matplotlib', 'seaborn', 'sklearn', 'scipy', 'numpy', 'torch') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
