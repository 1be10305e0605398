"""Scores, retention and paired differences, from samples written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from gdpo.config.layout import Layout, Run
from gdpo.core.files import write_jsonl
from gdpo.report.scores import Scores
from tests.refusal import refused
from tests.seeded import two_seeds

ORIGIN = [Run("tiny-s", "none", "origin", 0)]
TRAINED = [Run("tiny-s", "metakl", "gdpo", seed) for seed in (0, 1)]


def write(layout: Layout, run: Run, benchmark: str, right: range, items: int = 20, split: str = "test") -> None:
    rows = ({"id": str(i), "verdict": "right" if i in right else "wrong"} for i in range(items))
    write_jsonl(layout.samples(run, split) / f"{benchmark}.jsonl", rows)


@pytest.fixture
def layout(tmp_path, monkeypatch):
    """Origin has items 0-9 of 20 right; seed 0 has 5-14, seed 1 has 5-18 right; of `hop`, all have 0-4 right."""
    monkeypatch.chdir(tmp_path)
    layout = Layout(two_seeds())
    for run, right in zip([*ORIGIN, *TRAINED], [range(10), range(5, 15), range(5, 19)], strict=True):
        write(layout, run, "fact", right)
        write(layout, run, "hop", range(5))
    return layout


def test_means_are_over_seeds_and_macro_over_benchmarks(layout):
    """fact: (10 + 14) / 40 = 60%; hop: 25%; macro 42.5%."""
    scores = Scores(layout)
    assert scores.mean(TRAINED, ["fact"]) == pytest.approx(60)
    assert scores.mean(TRAINED, ["fact", "hop"]) == pytest.approx(42.5)
    assert scores.outcomes(TRAINED, "fact").sum(axis=1).tolist() == [10, 14]


def test_retention_is_of_what_the_origin_had_right(layout):
    """Both seeds still have 5-9 of 0-9 right: 50%; all of hop's five: 100%; macro 75%."""
    scores = Scores(layout)
    assert scores.retained_mean(TRAINED, ORIGIN, ["fact"]) == pytest.approx(50)
    assert scores.retained_mean(TRAINED, ORIGIN, ["fact", "hop"]) == pytest.approx(75)
    assert scores.retained_draws(TRAINED, ORIGIN, ["hop"]) == pytest.approx(np.full(200, 100.0))


def test_differences_are_paired(layout):
    """hop is the same before and after: its redraws vary, and their difference is nothing in each."""
    scores = Scores(layout)
    draws = scores.draws(TRAINED, ["hop"])
    assert draws.shape == (200,)
    assert draws.std() > 5
    mean, redrawn = scores.difference(TRAINED, ORIGIN, ["hop"])
    assert mean == 0
    assert np.abs(redrawn).max() < 1e-9
    mean, redrawn = scores.difference(TRAINED, ORIGIN, ["fact"])
    assert mean == pytest.approx(10)
    assert redrawn.mean() == pytest.approx(10, abs=3)


def test_missing_or_empty_scores_are_none(layout):
    scores = Scores(layout)
    write(layout, TRAINED[0], "pair", range(3))
    write(layout, TRAINED[1], "pair", range(3))
    for benchmarks in (["fact", "order"], []):
        assert scores.mean(TRAINED, benchmarks) is None
        assert scores.draws(TRAINED, benchmarks) is None
        assert scores.retained_draws(TRAINED, ORIGIN, benchmarks) is None
    assert scores.mean(TRAINED, ["pair"]) == pytest.approx(15)
    assert scores.difference(TRAINED, ORIGIN, ["pair"]) is None
    write(layout, ORIGIN[0], "logic", range(0))
    write(layout, TRAINED[0], "logic", range(3))
    assert scores.retained_mean(TRAINED[:1], ORIGIN, ["logic"]) is None


def sampled(layout: Layout, run: Run, benchmark: str, rights: list[int]) -> None:
    """Items of four samples each, of which so many are right."""
    rows = [{"id": str(i), "verdicts": ["right"] * n + ["wrong"] * (4 - n)} for i, n in enumerate(rights)]
    write_jsonl(layout.samples(run, "test") / f"{benchmark}.jsonl", rows)


def test_an_item_that_was_sampled_counts_by_its_share(layout):
    """4, 2, 1 and 0 of 4 right: (1 + 0.5 + 0.25 + 0) / 4 = 43.75%; its redraws lie around that."""
    sampled(layout, ORIGIN[0], "pair", [4, 2, 1, 0])
    scores = Scores(layout)
    assert scores.outcomes(ORIGIN, "pair").tolist() == [[1, 0.5, 0.25, 0]]
    assert scores.mean(ORIGIN, ["pair"]) == pytest.approx(43.75)
    assert scores.draws(ORIGIN, ["pair"]).mean() == pytest.approx(43.75, abs=3)


def test_an_item_was_right_before_where_half_of_its_samples_were(layout):
    """Of 4, 2, 1 and 0 right the first two count; of these the trained run has 2 and 1 of 4: (0.5 + 0.25) / 2."""
    sampled(layout, ORIGIN[0], "pair", [4, 2, 1, 0])
    sampled(layout, TRAINED[0], "pair", [2, 1, 4, 4])
    assert Scores(layout).retained_mean(TRAINED[:1], ORIGIN, ["pair"]) == pytest.approx(37.5)


def test_files_are_read_once(layout):
    scores = Scores(layout)
    before = scores.mean(TRAINED, ["fact"])
    write(layout, TRAINED[0], "fact", range(0))
    assert scores.mean(TRAINED, ["fact"]) == before


def test_runs_scored_on_different_items_are_refused(layout):
    write(layout, TRAINED[1], "fact", range(5), items=19)
    with refused(path="metakl/gdpo/1/fact.jsonl", found="other items"):
        Scores(layout).mean(TRAINED, ["fact"])


def test_validation_split_reads_its_own_files(layout):
    write(layout, TRAINED[0], "fact", range(4), split="validation")
    assert Scores(layout, "validation").mean(TRAINED[:1], ["fact"]) == pytest.approx(20)
