"""Cells, intervals and retention, from samples written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from gdpo.config import load_scale
from gdpo.files import write_jsonl
from gdpo.layout import Layout, Run
from gdpo.report.bootstrap import half_width, redraw
from gdpo.report.tables import columns, markdown, table_rows


def test_the_interval_of_a_coin_is_close_to_the_normal_one():
    """One seed, 400 items, half right: half-width about 1.96 * sqrt(0.25 / 400) = 0.049."""
    outcomes = np.tile([0.0, 1.0], 200)[None]
    draws = redraw(outcomes, 4000, seed=0, name="coin")
    assert draws.mean() == pytest.approx(0.5, abs=0.005)
    assert half_width(draws) == pytest.approx(0.049, abs=0.005)


def test_seeds_that_disagree_widen_the_interval():
    agree = np.ones((3, 50)) * np.tile([0.0, 1.0], 25)
    disagree = np.array([np.zeros(50), np.tile([0.0, 1.0], 25), np.ones(50)])
    assert half_width(redraw(disagree, 2000, 0, "x")) > 2 * half_width(redraw(agree, 2000, 0, "x"))


def test_redraws_are_paired_across_rows_and_repeatable():
    outcomes = np.random.default_rng(1).integers(0, 2, (3, 40)).astype(float)
    assert np.array_equal(redraw(outcomes, 1500, 0, "b"), redraw(outcomes, 1500, 0, "b"))
    assert np.allclose(redraw(1 - outcomes, 1500, 0, "b"), 1 - redraw(outcomes, 1500, 0, "b"))
    assert not np.array_equal(redraw(outcomes, 1500, 0, "b"), redraw(outcomes, 1500, 0, "c"))


@pytest.fixture
def layout(tmp_path, monkeypatch):
    """Origin has items 0-9 right; every trained run has 5-14 right, in each benchmark of 20."""
    monkeypatch.chdir(tmp_path)
    layout = Layout(load_scale("micro"))
    for run in layout.selected_runs(layout.scale.tables["table2"]):
        right = range(10) if run.is_origin else range(5, 15)
        for name in layout.scale.benchmarks:
            rows = ({"id": str(i), "verdict": "right" if i in right else "wrong"} for i in range(20))
            write_jsonl(layout.samples(run, "test") / f"{name}.jsonl", rows)
    return layout


def test_cells_are_means_in_percent_and_averages_are_macro(layout):
    header, rows = table_rows(layout, "table2")
    assert len(rows) == len(layout.scale.tables["table2"].rows) * len(layout.scale.students)
    shown = columns(layout.scale, layout.scale.tables["table2"])
    assert [c.key for c in shown][-1] == "overall_avg"
    assert len(shown[-1].benchmarks) == 13
    assert all(row[c.key] == "50.00" for row in rows for c in shown)
    assert rows[0]["seeds"] == "none"
    assert rows[1]["seeds"].split() == [str(seed) for seed in layout.scale.seeds]
    assert set(header) == set(rows[0])


def test_retention_counts_only_what_the_student_already_did(layout):
    """Of items 0-9, the trained runs still have 5-9: retention 50%; the origin keeps all of its own."""
    _, rows = table_rows(layout, "table2", retention=True)
    assert rows[0]["overall_avg"] == "100.00"
    assert rows[1]["overall_avg"] == "50.00"
    assert rows[1]["n"] == "10"


def test_a_dropped_column_is_empty_and_so_are_averages_over_it(layout):
    shown = columns(layout.scale, layout.scale.tables["table2"])
    name = shown[0].key
    student = layout.scale.students[0]
    for seed in layout.scale.seeds:
        (layout.samples(Run(student, "hard-only", "sft", seed), "test") / f"{name}.jsonl").unlink()
    _, rows = table_rows(layout, "table2")
    assert rows[1][name] == rows[1]["overall_avg"] == ""
    assert rows[2][name] == "50.00"
    assert "| - |" in markdown("t", shown, rows, ["n"])
