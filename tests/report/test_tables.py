"""Cells and retention, from samples written by hand."""

from __future__ import annotations

import pytest

from gdpo.config import load_scale
from gdpo.files import write_jsonl
from gdpo.layout import Layout, Run
from gdpo.report.tables import columns, markdown, table_rows


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
