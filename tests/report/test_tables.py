"""Tables of scores, retention and forgetting from samples written by hand; their files, marks and forms."""

from __future__ import annotations

import csv
import io

import pytest

from gdpo.config.layout import Layout, Run
from gdpo.config.tables import Cell
from gdpo.core import markdown
from gdpo.core.files import write_json, write_jsonl
from gdpo.report import steps, tables
from gdpo.report.rendered_table import RenderedTable, TableCell, escape_latex, number, to_latex
from gdpo.report.scores import Scores
from tests.seeded import two_seeds

DRAWS = 10000  # micro's own; with 200 none of a table's differences could be significant


def write(layout: Layout, run: Run, benchmark: str, right: range) -> None:
    rows = ({"id": str(i), "verdict": "right" if i in right else "wrong"} for i in range(20))
    write_jsonl(layout.samples(run, "test") / f"{benchmark}.jsonl", rows)


@pytest.fixture
def layout(tmp_path, monkeypatch):
    """Origin has items 0-9 right; every trained run has 5-14 right, in each benchmark of 20."""
    monkeypatch.chdir(tmp_path)
    layout = Layout(two_seeds().model_copy(update={"bootstrap_draws": DRAWS}))
    for run in layout.selected_runs(layout.scale.tables["table2"]):
        for name in layout.scale.benchmarks:
            write(layout, run, name, range(10) if run.is_origin else range(5, 15))
        write_json(layout.score(run, "test"), {"benchmarks": {}})
    return layout


def rows_of(layout: Layout, part: str = "") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(tables.texts(Scores(layout), "table2", part)[".csv"])))


def trained(layout: Layout, row: int, student: int = 0) -> list[Run]:
    return layout.cell_runs(layout.scale.students[student], layout.scale.tables["table2"].rows[row])


def test_cells_are_means_in_percent_and_averages_are_macro(layout):
    rows = rows_of(layout)
    assert len(rows) == len(layout.scale.tables["table2"].rows) * len(layout.scale.students)
    shown = tables.columns(layout, layout.scale.tables["table2"])
    assert [c.key for c in shown][-1] == "overall_avg"
    assert len(shown[-1].benchmarks) == 13
    assert all(row[c.key] == "50.00" for row in rows for c in shown)
    assert rows[0]["seeds"] == "none"
    assert rows[1]["seeds"].split() == [str(seed) for seed in layout.scale.seeds]
    assert rows[1]["n"] == "20"


def test_an_interval_stands_beside_its_mean(layout):
    """20 items, half right: 50 plus or minus about 1.96 * sqrt(0.25 / 20) = 21.9; of 13 columns' average, 6.1."""
    row = rows_of(layout)[0]
    assert (float(row["fact_low"]), float(row["fact_high"])) == pytest.approx((28, 72), abs=3)
    assert (float(row["overall_avg_low"]), float(row["overall_avg_high"])) == pytest.approx((44, 56), abs=1.5)


def test_an_arrow_stands_only_where_the_difference_is_significant(layout):
    """All 20 right against 10: up. 12 against 10, the same 10 and 2 more: not, among the table's 100 differences."""
    for run in trained(layout, 4):
        write(layout, run, "fact", range(20))
        write(layout, run, "hop", range(12))
        write(layout, run, "harmful", range(0))
    row = rows_of(layout)[4]
    assert (row["fact"], row["fact_mark"]) == ("100.00", "up")
    assert (row["hop"], row["hop_mark"]) == ("60.00", "")
    assert (row["harmful"], row["harmful_mark"]) == ("0.00", "down")
    assert rows_of(layout)[0]["fact_mark"] == ""


def test_the_adjustment_is_over_the_whole_table(layout):
    """One comparison's smallest p is 2 / 10001; here it is 100 times that: 5 rows, 2 students, 10 columns."""
    for run in trained(layout, 4):
        write(layout, run, "fact", range(20))
    changed = rows_of(layout, "_forgetting")
    assert len(changed) == 10
    assert float(changed[3]["fact_p"]) == pytest.approx(100 * 2 / 10001, abs=5e-5)
    assert changed[3]["hop_p"] == "1.0000"


def test_the_best_of_the_trained_rows_is_marked_with_all_its_ties(layout):
    """Origin, the best of all, is no trained row; rows 1 and 2 tie; the other student's best is its own."""
    write(layout, trained(layout, 0)[0], "fact", range(20))
    for row in (1, 2):
        for run in trained(layout, row):
            write(layout, run, "fact", range(15))
    best = [row["fact_best"] for row in rows_of(layout)]
    assert best == ["", "1", "1", "", "", "", "", "1", "1", "1", "1", "1"]


def test_retention_counts_only_what_the_student_already_did(layout):
    """Of items 0-9, the trained runs still have 5-9: retention 50%; the origin keeps all of its own."""
    rows = rows_of(layout, "_retention")
    assert (rows[0]["overall_avg"], rows[0]["overall_avg_low"]) == ("100.00", "100.00")
    assert rows[1]["overall_avg"] == "50.00"
    assert rows[1]["n"] == "10"


def test_forgetting_is_after_minus_before_and_counts_benchmarks(layout):
    """fact +50 points and significant, hop -50 and significant; averages are no benchmarks and are not counted."""
    for run in trained(layout, 1):
        write(layout, run, "fact", range(20))
        write(layout, run, "hop", range(0))
    row = rows_of(layout, "_forgetting")[0]
    assert row["row"] == "hard-only"
    assert (row["fact"], row["hop"], row["pair"]) == ("50.00", "-50.00", "0.00")
    assert (row["worse"], row["better"]) == ("1", "1")
    for run in trained(layout, 1):
        for name in layout.scale.domain_benchmarks("safety"):
            write(layout, run, name, range(20))
    row = rows_of(layout, "_forgetting")[0]
    assert float(row["safety_avg_p"]) < 0.05
    assert (row["worse"], row["better"]) == ("1", "5")


def test_a_dropped_column_is_empty_and_so_are_averages_over_it(layout):
    run = trained(layout, 1)[0]
    for one in trained(layout, 1):
        (layout.samples(one, "test") / "fact.jsonl").unlink()
    write_json(layout.score(run, "test"), {"benchmarks": {}, "dropped": {"fact": "2 of its 20 items are in it"}})
    rows = rows_of(layout)
    assert [rows[1][key] for key in ("fact", "fact_low", "fact_best", "overall_avg")] == [""] * 4
    assert rows[1]["hop"] == rows[2]["fact"] == "50.00"
    assert rows_of(layout, "_forgetting")[0]["fact_p"] == ""
    text = tables.texts(Scores(layout), "table2", "")[".md"]
    assert "column fact left empty: 2 of its 20 items" in text
    assert " - |" in text


def test_markdown_has_arrows_and_bold_and_says_how_they_are_meant(layout):
    for run in trained(layout, 4):
        write(layout, run, "fact", range(20))
    text = tables.texts(Scores(layout), "table2", "")[".md"]
    assert "| **100.0 [100.0, 100.0]**↑ |" in text
    assert "Holm's adjustment over the table's 100 comparisons" in text
    assert "none of" not in text
    few = Layout(layout.scale.model_copy(update={"bootstrap_draws": 200}))
    assert (
        "With 200 draws none of 100 differences can be significant." in tables.texts(Scores(few), "table2", "")[".md"]
    )


def test_latex_is_a_fragment_with_a_rule_between_students(layout):
    for run in trained(layout, 4):
        write(layout, run, "fact", range(20))
    text = tables.texts(Scores(layout), "table2", "")[".tex"]
    assert r"\textbf{100.0 [100.0, 100.0]}$\uparrow$" in text
    assert text.count(r"\midrule") == 2
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1
    assert "documentclass" not in text
    columns = text.split(r"\begin{tabular}{")[1].split("}")[0]
    assert {line.count("&") for line in text.splitlines() if line.endswith(r"\\")} == {len(columns) - 1}


def test_text_is_escaped():
    assert escape_latex("50% of a_b & c\\d #1 {x} $y$ ~ ^") == (
        r"50\% of a\_b \& c\textbackslash{}d \#1 \{x\} \$y\$ \textasciitilde{} \textasciicircum{}"
    )
    assert markdown.escape("a|b <i>\n*c*", markdown.MARKUP) == r"a\|b \<i> \*c\*"
    table = RenderedTable("t", ["a"], [{}], ["a_b"], [[TableCell("x|y", "down", True)]], labels=1)
    assert r"\textbf{x\textbar{}y}$\downarrow$" in to_latex(table)
    assert r"a\_b" in to_latex(table)
    assert number(-0.001) == "0.00"
    assert number(None) == ""


def test_a_table_writes_the_files_it_says_and_publishes_them(layout, capsys):
    stem = layout.table("table2").with_suffix("")
    said = tables.files(layout.scale.tables["table2"], stem)
    assert [path.name for path in said[:3]] == ["table2.csv", "table2.md", "table2.tex"]
    assert len(said) == 9
    steps.table(layout.scale, "table2")
    written = {path for path in stem.parent.iterdir() if "provenance" not in path.name}
    assert written == set(said)
    assert stem.with_name("table2_forgetting.csv.provenance.json").exists()
    first = {path: path.read_bytes() for path in said}
    steps.table(layout.scale, "table2")
    assert {path: path.read_bytes() for path in said} == first
    steps.publish(layout.scale, "table2")
    for path in said:
        assert (layout.root.parent / path.name).read_bytes() == path.read_bytes()
    capsys.readouterr()
    steps.show(layout.scale, "table2")
    shown = capsys.readouterr().out
    assert "50.00±" in shown
    assert "hard-only: significantly worse on 0 benchmarks, better on 0; general_avg 0.00 [" in shown


def test_inputs_are_the_runs_and_each_student_untrained(layout):
    """A table without a row Origin still needs it, and needs nothing twice."""
    scale = layout.scale
    table = scale.tables["table2"].model_copy(update={"rows": [Cell(row="x", trainset="metakl", method="gdpo")]})
    layout = Layout(scale.model_copy(update={"tables": {"table2": table}}))
    found = tables.inputs(layout, "table2")
    assert len(found) == len(set(found)) == 2 * len(scale.students) * (1 + len(scale.seeds))
    origin = Run(scale.students[0], "none", "origin", 0)
    assert layout.score(origin, "test") in found
    assert layout.samples(origin, "test") in found


def test_a_finished_model_in_a_row_is_compared_with_the_tables_student(layout):
    """Its row is no Origin: it has differences, from the student of the set."""
    scale = layout.scale
    rows = [Cell(row="Origin"), Cell(row="theirs", model="tiny-m")]
    table = scale.tables["table2"].model_copy(update={"rows": rows})
    layout = Layout(scale.model_copy(update={"tables": {"table2": table}, "students": ["tiny-s"]}))
    write(layout, Run("tiny-m", "none", "origin", 0), "fact", range(20))
    changed = rows_of(layout, "_forgetting")
    assert [(row["row"], row["fact"], row["hop"], row["seeds"]) for row in changed] == [
        ("theirs", "50.00", "0.00", "none")
    ]
