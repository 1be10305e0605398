"""Jobs, times and costs in plain words and numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gdpo.config.loader import load_scale
from gdpo.display import wording
from gdpo.display.estimate import Estimate, Planned, kept_costs, kept_seconds

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def names(monkeypatch):
    monkeypatch.setattr(wording, "NAMES", {})


def test_every_rule_of_the_workflow_has_words():
    rules = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    named = re.findall(r"^ *rule (\w+):$", rules, re.MULTILINE)
    named += [name.partition("{")[0] for name in re.findall(r'^ *f"([a-z_]+\{\w+\})",?$', rules, re.MULTILINE)]
    assert {"train", "evaluate_origin_", "table_", "publish_"} <= set(named) and len(named) > 25
    told = [*wording.WORDS, *wording.FAMILIES]
    assert [name for name in named if not any(rule.startswith(name) for rule in told)] == []


def test_words_use_display_names_of_the_scale():
    wildcards = {"student": "tiny-s", "trainset": "metakl", "method": "sft"}
    assert wording.words("evaluate", wildcards) == "evaluating tiny-s, metakl, sft"
    wording.use(load_scale("micro"))
    assert wording.words("evaluate", wildcards) == "evaluating Tiny-S, MetaKL, SFT"
    assert wording.words("model", {"model": "tiny-teacher"}) == "making model Tiny-Teacher"
    assert wording.words("table_scores", {"table": "table2"}) == "making table2"
    assert wording.words("publish_figure", {"figure": "lengths"}) == "publishing figure lengths"


def test_rule_without_words_is_shown_by_its_name():
    assert wording.words("count_the_stars", {"sky": "north"}) == "count the stars north"


@pytest.mark.parametrize(
    ("seconds", "exact", "about"),
    [
        (-3, "0 s", "10 s"),
        (8.4, "8 s", "10 s"),
        (44, "44 s", "40 s"),
        (59.6, "1 min 0 s", "1 min"),
        (80, "1 min 20 s", "1 min"),
        (599, "9 min 59 s", "10 min"),
        (3599, "59 min 59 s", "60 min"),
        (7500, "2 h 5 min", "2 h"),
        (9000, "2 h 30 min", "2 h 30 min"),
    ],
)
def test_times_in_words(seconds, exact, about):
    assert wording.duration(seconds) == exact
    assert wording.about(seconds) == about


def test_kept_costs_are_seconds_a_result_of_the_first_table_that_can_be_read(tmp_path):
    """34.0 s over 4 results are 8.5 s; a table that is cut off, or that no result is in, is passed over."""
    torn, empty, whole = (tmp_path / f"{name}.csv" for name in ("torn", "empty", "whole"))
    torn.write_text("step,results,wall_seconds\nevaluate,4\n")
    empty.write_text("step,results,wall_seconds\nevaluate,0,1.0\n")
    whole.write_text("step,results,wall_seconds\nevaluate,4,34.0\ntrain sft,2,5.0\n")
    assert kept_costs(tmp_path / "none.csv", torn, empty, whole) == {"evaluate": 8.5, "train sft": 2.5}
    assert kept_costs(torn, empty) == {}


@pytest.mark.parametrize(
    ("rule", "outputs", "method", "seconds"),
    [
        ("train", 3, "sft", 30),  # a run a seed
        ("train_sweep", 5, "sft", 100),  # a run a rate, by the sweep's own cost
        ("train", 3, "new", None),
        ("evaluate", 6, "sft", 12),  # score and samples a seed
        ("evaluate_origin_test", 2, "", 4),
        ("table_scores", 9, "", 7),
        ("sources", 1, "", 5),
        ("drift", 5, "sft", 15),
        ("publish_scores", 2, "", None),
    ],
)
def test_kept_seconds_of_a_job(rule, outputs, method, seconds):
    costs = {"train sft": 10.0, "train sft, sweep": 20.0, "evaluate": 4.0, "table": 7.0, "pool": 5.0, "drift": 3.0}
    assert kept_seconds(costs, rule, outputs, method) == seconds


def test_the_kept_costs_of_this_project_know_the_steps_of_a_table():
    costs = kept_costs(ROOT / "results/reference/tiny/cost.csv")
    known = [
        kept_seconds(costs, rule, 6, "sft") for rule in ("model", "respond", "train", "evaluate", "select", "answer")
    ]
    assert all(seconds is not None and seconds > 0 for seconds in known)


def test_job_without_kept_cost_is_estimated_by_its_rule_or_by_all():
    """Rule a took 2 and 4 seconds, mean 3, rule b 10: the median of all is 4. What runs for longer has nothing left."""
    estimate = Estimate({})
    assert estimate.job(9, "a") is None and not estimate.known
    for job, rule, seconds in [(1, "a", 2.0), (2, "a", 4.0), (3, "b", 10.0)]:
        estimate.finish(job, rule, seconds)
    assert (estimate.job(9, "a"), estimate.job(9, "c")) == (3, 4)
    assert estimate.left([(4, "a", 1.0), (5, "b", 11.0)], [(6, "c")], 1) == 2 + 0 + 4


def test_kept_costs_are_scaled_to_machine_and_imports():
    """One job took 15 in place of 30: half. With a second one that took 11 in place of 1, in all 26 of 31, of which the
    median job is longer by (0 + 10) / 2 = 5."""
    estimate = Estimate({1: Planned("a", 30.0), 2: Planned("a", 50.0), 3: Planned("b", 1.0)})
    assert estimate.job(2, "a") == 50
    estimate.finish(1, "a", 15.0)
    assert estimate.job(2, "a") == 25
    estimate.finish(3, "b", 11.0)
    assert estimate.job(2, "a") == pytest.approx(50 * 26 / 31 + 5)
