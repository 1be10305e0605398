"""Notes on rows whose learning rate was not swept, and on rows that train for another number of steps."""

from __future__ import annotations

import pytest

from gdpo.config.layout import Layout
from gdpo.config.loader import load_scale
from gdpo.config.tables import Cell
from gdpo.core.files import write_json
from gdpo.report import unlike_rows
from gdpo.report.steps import show


@pytest.fixture
def own(tmp_path, monkeypatch):
    """tiny, where every rate of table 2 was swept, with a scale file of one's own."""
    monkeypatch.chdir(tmp_path)

    def load(text: str, base: str = "tiny") -> Layout:
        (tmp_path / "own.yaml").write_text(f"extends: {base}\n{text}\n")
        return Layout(load_scale("own.yaml"))

    return load


ROW = "tables: {table2: {add_rows: [{row: Mine, trainset: union, method: mine}]}}"


def test_no_note_on_the_tables_of_tiny(own):
    layout = own("")
    assert unlike_rows.notes(layout, layout.scale.tables) == []


def test_row_at_a_rate_that_was_not_swept_is_named(own):
    [note] = unlike_rows.notes(own("methods: {mine: {extends: sft, learning_rate: 0.002}}\n" + ROW), ["table2"])
    assert note.startswith("table2: the learning rate of 'Mine' was not swept for Tiny-S, Tiny-M: ")
    assert "the configuration's 0.002" in note


def test_scale_without_a_sweep_has_one_note_for_all_tables(own):
    [note] = unlike_rows.notes(own("", base="micro"), ["table1", "table2"])
    assert note.startswith("table1, table2: no learning rate was swept at scale micro")


def test_rows_with_other_steps_are_named_by_configuration(own):
    """Of 512 questions in batches of 32, 5 epochs are 80 steps, and 2.5 epochs are 40."""
    notes = unlike_rows.notes(own("methods: {mine: {extends: sft, epochs: 2.5}}\n" + ROW), ["table2"])
    assert notes[1] == "table2: steps of training differ, by configuration: 'Mine' 40, other rows 80 (Tiny-S, Tiny-M)"


def test_configured_steps_by_hand(own):
    """Of a half, 256 questions, 5 epochs of 8 batches are 40; two completions a question double sft's sequences."""
    scale = own("methods: {two: {extends: sft, completions: 2}}").scale
    steps = {
        (trainset, method): unlike_rows.configured_steps(scale, Cell(row="R", trainset=trainset, method=method))
        for trainset, method in [("metakl", "gdpo"), ("metakl-half", "gdpo"), ("metakl", "two")]
    }
    assert list(steps.values()) == [80, 40, 160]
    assert unlike_rows.configured_steps(load_scale("micro"), Cell(row="R", trainset="metakl-math", method="gdpo")) == 24


def test_steps_are_counted_where_every_run_has_its_log(own):
    """Seeds of 40, 41 and 42 steps are 41 on average; with one log missing the configuration counts, and is equal."""
    layout = own("")
    rows = layout.scale.tables["table2"].rows
    for student in layout.scale.students:
        for cell in rows[1:]:
            for run in layout.cell_runs(student, cell):
                write_json(layout.run(run) / "train.json", {"steps": 40 + run.seed if cell.method == "gdpo" else 80})
    [note] = unlike_rows.notes(layout, ["table2"])
    assert note.startswith("table2: steps of training differ, as trained: 'MetaGDPO' 41, other rows 80")
    (layout.run(layout.cell_runs("tiny-m", rows[1])[0]) / "train.json").unlink()
    [note] = unlike_rows.notes(layout, ["table2"])
    assert note.endswith("(Tiny-S)")


def test_finished_models_and_case_studies_have_no_note(own):
    layout = own("", base="micro")
    assert unlike_rows.notes(layout, ["tableA4", "tableA13"]) == []
    finished = "tables: {table2: {rows: [{row: Origin}, {row: A, trainset: metakl, method: sft, model: tiny-m}]}}"
    assert unlike_rows.notes(own(finished, base="micro"), ["table2"]) == []


def test_show_prints_the_notes_before_its_last_line(own, capsys, tmp_path):
    layout = own("", base="micro")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "tableA3.md").write_text("a table\n")
    show(layout.scale, "tableA3")
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[-3:]] == ["note", "note", "results/tableA3*"]
    assert "'GRPO' 6, other rows 24" in lines[-2]
