"""The paper's printed numbers, and ours beside them where they are about the same thing."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gdpo.config.layout import Layout
from gdpo.config.loader import load_scale
from gdpo.report.published import compare, compare_all, inputs, markdown, published, same_name
from tests.refusal import refused


def test_published_rows_are_complete_and_unchanged():
    """4 rows in A1+A2, 3 in A5+A6, 8 in A7+A8, 8 in A9+A10, 2 x 5 in A11+A12: 33 rows, 33 x 17 numbers."""
    rows = published()
    assert len(rows) == 33
    assert all(len(row.cells) == 17 for row in rows)
    row = next(r for r in rows if (r.table, r.model, r.row) == ("A11+A12", "Qwen2.5-7B-Instruct", "STAR-1"))
    assert str(row.cells["general_avg"]) == "59.69"
    assert row.cells["StrongReject"] == Decimal("100.0")


def test_published_cell_that_is_no_number_is_refused(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("table,model,row,AIME24\nA1,M,Origin,many\n")
    with refused(path="p.csv", key="A1 Origin, AIME24", found="'many'", expected="a number"):
        published(path)


def test_same_name_maps_aliases():
    assert same_name("StrongReject") == same_name("StrongREJECT")
    assert same_name("TrustLLM-Misuse") == same_name("TrustLLM misuse")
    assert same_name("GPQA") == same_name("GPQA-Diamond")
    assert same_name("STAR-1") == same_name("STAR-1K") != same_name("LIMO")


def test_compare_at_paper_scale():
    """A7 prints 76.04 on AIME24 for Qwen3-8B's GDPO, A8 prints 62.12 on GPQA; 77.04 of ours is one point more."""
    layout = Layout(load_scale("paper"))
    rows = [
        {"model": "Qwen3-8B", "row": "GDPO", "aime24": "77.04", "math_avg": "80.00", "amc23": ""},
        {"model": "R1-Qwen-7B", "row": "GDPO", "aime24": "50.00"},
    ]
    first, average = compare(layout, "tableA7", rows)
    assert (first.column, first.published, first.ours) == ("AIME24", Decimal("76.04"), 77.04)
    assert first.difference == pytest.approx(1.0)
    assert (average.column, average.published) == ("math_avg", Decimal("80.08"))
    (gpqa,) = compare(layout, "tableA8", [{"model": "Qwen3-8B", "row": "GDPO", "gpqa-diamond": "60.12"}])
    assert gpqa.difference == pytest.approx(-2.0)
    (meta,) = compare(layout, "table2", [{"model": "Qwen3-8B", "row": "MetaGDPO", "mmlu": "84.13"}])
    assert meta.difference == pytest.approx(0.0)
    assert compare(layout, "tableA4", rows) == []


def test_average_over_other_benchmarks_is_not_compared():
    scale = load_scale("paper")
    fewer = {name: b for name, b in scale.benchmarks.items() if name != "minerva"}
    row = {"model": "Qwen3-8B", "row": "GDPO", "math_avg": "80.00", "overall_avg": "80.00", "safety_avg": "85.09"}
    found = compare(Layout(scale.model_copy(update={"benchmarks": fewer})), "tableA7", [row])
    assert [pair.column for pair in found] == ["safety_avg"]


def test_tiny_has_no_published_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layout = Layout(load_scale("tiny"))
    path = next(path for path in inputs(layout) if path.stem == "tableA7")
    path.parent.mkdir(parents=True)
    path.write_text("model,row,math_avg\nTiny-S,GDPO,80.00\n")
    assert compare_all(layout) == []
    assert "No model of scale tiny is one of the paper's" in markdown(layout.scale, [])
