"""The paper's numbers and ours, cell by cell, from samples written by hand; and the page that shows the kept ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdpo.config.layout import Layout, Run
from gdpo.config.loader import load_scale
from gdpo.core.files import read_csv, write_json, write_jsonl
from gdpo.core.project import CONFIG
from gdpo.core.provenance import provenance_path
from gdpo.report import steps
from gdpo.report.reproduced import COLUMNS, filled, rows, section
from tests.refusal import refused

HOME = CONFIG.parent.parent
WHY = "GPQA-Diamond is gated, and no token was given."
MARKED = "before\n<!-- reproduced:paper -->\nold\n<!-- /reproduced -->\nafter\n"


@pytest.fixture
def layout(tmp_path, monkeypatch):
    """Scale paper with one student and one seed; of 20 items every scored run has 10 right; GPQA cannot be had.

    Scored are Origin and GDPO; GDPO was trained in 60 s on a GPU, each scored in 5 s on another machine.
    """
    monkeypatch.chdir(tmp_path)
    scale = load_scale("paper")
    scale = scale.model_copy(update={"students": scale.students[:1], "seeds": [0], "bootstrap_draws": 200})
    layout = Layout(scale)
    write_jsonl(layout.benchmark("gpqa-diamond", "test"), [])
    write_json(provenance_path(layout.benchmark("gpqa-diamond", "test")), {"unavailable": WHY})
    student = scale.students[0]
    trained = Run(student, "metakl", "gdpo", 0)
    for run in (Run(student, "none", "origin", 0), trained):
        for name in set(scale.benchmarks) - {"gpqa-diamond"}:
            items = ({"id": str(i), "verdict": "right" if i < 10 else "wrong"} for i in range(20))
            write_jsonl(layout.samples(run, "test") / f"{name}.jsonl", items)
        write_json(layout.score(run, "test"), {"benchmarks": {}, "dropped": {}})
        record = {"wall_seconds": 5.0, "hardware": {"cpu": "Z80"}}
        write_json(provenance_path(layout.score(run, "test")), record)
    record = {"wall_seconds": 60.0, "hardware": {"gpu": "Big GPU", "cpu": "Z80"}}
    write_json(layout.run(trained) / "provenance.json", record)
    return layout


def cell(layout: Layout, table: str, row: str, column: str) -> dict[str, str]:
    (found,) = [r for r in rows(layout) if (r["table"], r["row"], r["column"]) == (table, row, column)]
    return found


def test_reproduced_has_a_row_for_each_cell_of_four_tables(layout):
    """Tables 1 and 2 have 6 rows, A7 and A8 have 8; 6 math columns and an average, 7 others with 2, and the overall."""
    found = rows(layout)
    assert len(found) == 6 * 7 + 6 * 10 + 8 * 7 + 8 * 10
    assert all(list(row) == COLUMNS for row in found)


def test_reproduced_row_has_both_numbers_and_the_command(layout):
    found = cell(layout, "tableA7", "GDPO", "AIME24")
    assert (found["paper"], found["paper_model"], found["ours"], found["n"]) == ("76.04", "Qwen3-8B", "50.00", "20")
    assert float(found["low"]) < 50 < float(found["high"])
    assert found["command"] == "snakemake --cores all results/tableA7.csv --resources gpu=1 --config scale=paper"
    assert (found["hardware"], found["seconds"], found["seeds"]) == ("Big GPU, Z80", "65.0", "0")
    origin = cell(layout, "table2", "Origin", "MMLU")
    assert (origin["paper"], origin["hardware"], origin["seconds"], origin["seeds"]) == ("79.28", "Z80", "5.0", "")


def test_metagdpo_is_the_appendix_gdpo_and_other_rows_of_table_2_are_not_printed(layout):
    assert cell(layout, "table2", "MetaGDPO", "safety_avg")["paper"] == "85.09"
    assert cell(layout, "table1", "MetaGDPO (literal)", "AIME24")["paper"] == ""


def test_empty_cell_has_a_note(layout):
    gated = cell(layout, "tableA8", "GDPO", "GPQA")
    assert (gated["paper"], gated["ours"], gated["note"]) == ("62.12", "", WHY)
    average = cell(layout, "tableA8", "GDPO", "general_avg")
    assert (average["ours"], average["n"], average["note"]) == ("50.00", "40", "over 2 of the paper's 3 columns")
    unmade = cell(layout, "tableA7", "SFT", "GSM8K")
    assert (unmade["paper"], unmade["ours"], unmade["note"], unmade["seconds"]) == ("94.84", "", "not made yet", "")


def test_dropped_column_has_its_reason_as_note(layout):
    run = Run(layout.scale.students[0], "metakl", "gdpo", 0)
    (layout.samples(run, "test") / "gsm8k.jsonl").unlink()
    write_json(layout.score(run, "test"), {"dropped": {"gsm8k": "2 of its 20 items are in training set metakl"}})
    found = cell(layout, "tableA7", "GDPO", "GSM8K")
    assert (found["ours"], found["note"]) == ("", "2 of its 20 items are in training set metakl")
    assert cell(layout, "tableA7", "GDPO", "math_avg")["note"] == "2 of its 20 items are in training set metakl"


def test_scale_with_other_benchmarks_has_no_published_columns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = rows(Layout(load_scale("tiny")))
    assert {row["ours"] for row in found} == {""}
    assert {row["note"] for row in found} == {"scale tiny has no such column", "scale tiny has no such average"}


def test_the_step_writes_both_files_and_with_docs_the_page(layout, tmp_path):
    steps.reproduced(layout.scale)
    written = read_csv(layout.reproduced)
    assert written == rows(layout)
    text = layout.reproduced.with_suffix(".md").read_text()
    assert "### Table A7\n\n`snakemake --cores all results/tableA7.csv --resources gpu=1 --config scale=paper`" in text
    assert "| GDPO | AIME24 | 76.04 | 50.00 [" in text
    kept = Path("results/reference/paper/reproduced.csv")
    kept.parent.mkdir(parents=True)
    kept.write_bytes(layout.reproduced.read_bytes())
    page = Path("docs/numbers/paper.md")
    page.parent.mkdir(parents=True)
    page.write_text(MARKED)
    steps.reproduced(layout.scale, docs=True)
    filled_page = page.read_text()
    assert filled_page == f"before\n<!-- reproduced:paper -->\n{section(written)}<!-- /reproduced -->\nafter\n"
    steps.reproduced(layout.scale, docs=True)
    assert page.read_text() == filled_page


def test_page_without_marks_is_refused():
    with refused(found="no marks", expected="<!-- reproduced:smol --> and <!-- /reproduced -->"):
        filled(MARKED, "smol", [])


def test_numbers_page_matches_the_reference_results():
    kept = HOME / "results" / "reference" / "smol" / "reproduced.csv"
    page = (HOME / "docs" / "numbers" / "smol.md").read_text()
    assert filled(page, "smol", read_csv(kept) if kept.exists() else []) == page
