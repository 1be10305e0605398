"""What the explorer's page holds: each number of its tables, each item once, inert text, the same bytes."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from gdpo.cli import main as cli
from gdpo.config.layout import Run, origin
from gdpo.core import terminal
from gdpo.core.files import read_csv, write_csv, write_json, write_jsonl
from gdpo.report import explorer, score_tables, steps
from gdpo.report.explorer import documents, items
from gdpo.report.explorer.scripts import script
from gdpo.report.scores import Scores
from gdpo.report.tables import columns
from tests.explorer.results import CODE, HOSTILE, ITEMS, RIGHT, made
from tests.refusal import refused

GDPO = "tiny-s/metakl/gdpo/0"


@pytest.fixture
def layout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return made(tmp_path)


def value(text: str) -> object:
    """What a script of data hands over."""
    return json.loads(re.fullmatch(r"explorer\.load\(\"[^\"]+\", (.*)\);\n", text, re.DOTALL)[1])


def files_below(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


# --- scripts


@pytest.mark.outcome("escaped")
@pytest.mark.parametrize("text", [*HOSTILE, "\ud800", "]]>", "\\", "'\"`"], ids=range(len(HOSTILE) + 4))
def test_no_text_breaks_out_of_a_script(text):
    made = script("items/x", {"text": text, text: 1})
    assert value(made) == {"text": text, text: 1}
    assert made.isascii() and made.isprintable() is False and made.count("\n") == 1
    assert not re.search(r"[<>&\u2028\u2029]", made)


def test_a_number_that_json_has_not_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        script("x", float("nan"))


# --- texts


def test_texts_are_kept_once_in_pieces():
    """Pieces of at most 5 characters: 'aa' and 'bbb', then 'cccccccc' alone, then 'd'."""
    texts = items.Texts()
    assert [texts.place(text) for text in ("aa", "bbb", "aa", "c" * 8, "d", "bbb")] == [0, 1, 0, 2, 3, 1]
    assert list(texts.pieces(5)) == [(0, ["aa", "bbb"]), (2, ["c" * 8]), (3, ["d"])]
    assert list(items.Texts().pieces()) == []


# --- items


def test_items_of_each_first_seed_beside_the_untrained_student(layout):
    texts = items.Texts()
    found = items.benchmark_items(Scores(layout), "hop", texts)
    [(_, kept)] = texts.pieces()
    assert sorted(found["runs"]) == sorted(
        f"{student}/{run}"
        for student in layout.scale.students
        for run in ("none/origin/0", "safety-only/sft/0", "metakl/gdpo/0")
    )
    assert [one[0] for one in found["items"]] == [f"hop-{n}" for n in range(ITEMS)]
    assert kept[found["items"][3][1]] == f"{HOSTILE[3]} hop 3?"
    assert {kept[one[2]] for one in found["items"]} == {"duck"}
    letters = found["runs"][GDPO]["v"].split()
    assert [n for n, letter in enumerate(letters) if letter == "r"] == list(RIGHT["hop"]["gdpo"])
    assert letters[39] == "u"
    assert kept[found["runs"][GDPO]["t"][2]] == f"{HOSTILE[2]} gdpo"
    assert len(kept) == len(set(kept))


def test_a_refusal_is_the_reference_where_refusing_is_right(layout):
    texts = items.Texts()
    found = items.benchmark_items(Scores(layout), "harmful", texts)
    [(_, kept)] = texts.pieces()
    assert {kept[one[2]] for one in found["items"]} == {"a refusal"}


def test_an_item_that_was_sampled_several_times_has_each_answer(layout):
    for run in items.shown_runs(layout):
        rows = [{"id": f"hop-{n}", "outputs": ["a", f"b{n}"], "verdicts": ["right", "wrong"]} for n in range(ITEMS)]
        write_jsonl(layout.samples(run, "test") / "hop.jsonl", rows)
    texts = items.Texts()
    found = items.benchmark_items(Scores(layout), "hop", texts)
    [(_, kept)] = texts.pieces()
    assert found["runs"][GDPO]["v"].split() == ["rw"] * ITEMS
    assert [kept[place] for place in found["runs"][GDPO]["t"][7]] == ["a", "b7"]


def test_answers_that_were_cut_off_are_named(layout):
    write_json(layout.measures(Run("tiny-s", "metakl", "gdpo", 0), "test"), {"cut": {"hop": [4, 9]}})
    found = items.benchmark_items(Scores(layout), "hop", items.Texts())
    assert found["runs"][GDPO]["c"] == [4, 9]
    assert "c" not in found["runs"]["tiny-s/none/origin/0"]


def test_runs_of_other_items_are_refused(layout):
    [run] = origin("tiny-m")
    path = layout.samples(run, "test") / "hop.jsonl"
    write_jsonl(path, [{"id": "other", "output": "", "verdict": "wrong"}])
    with refused(path=path, found="other items", expected="the same in order"):
        items.benchmark_items(Scores(layout), "hop", items.Texts())
    write_jsonl(layout.benchmark("fact", "test"), [])
    with refused(path=layout.benchmark("fact", "test"), found="no item 'fact-0'"):
        items.benchmark_items(Scores(layout), "fact", items.Texts())


def test_groups_have_the_parts_of_each_reward(layout):
    chunks = dict(items.group_chunks(layout))
    groups, [texts] = chunks["groups/metakl"], [chunks["texts/groups/metakl-0"]]
    assert groups["total"] == len(groups["groups"]) == 12
    name, prompt, completions = groups["groups"][1]
    assert (name, texts[prompt]) == ("q1", f"1 {HOSTILE[1]}")
    assert [[texts[place], *rest] for place, *rest in completions] == [
        ["yes", 2.0, "r", 1.0, 0.0, 0.5, 0.5],
        [HOSTILE[0], 0.75, "w", 0.0, 0.0, 0.5, 0.25],
    ]


# --- tables


def test_cells_are_those_of_the_table(layout):
    scores = Scores(layout)
    part = documents.score_part(scores, "table2")
    csv = score_tables.rendered(scores, "table2", "").csv_rows
    for row, shown, made_row in zip(csv, part["score"], part["rows"], strict=True):
        assert (row["model"], row["row"]) == (made_row["student"], made_row["title"])
        for column, cell in zip(part["columns"], shown, strict=True):
            ends = [row[f"{column['key']}{end}"] for end in ("", "_low", "_high")]
            assert (ends == ["", "", ""]) if cell is None else [f"{x:.2f}" for x in cell] == ends


def test_differences_of_any_two_rows_are_paired(layout):
    """hop of tiny-s: SFT has 5 of 40 right, GDPO 21: 16 of 40 are 40 points."""
    scores = Scores(layout)
    part = documents.score_part(scores, "table2")
    keys = [column["key"] for column in part["columns"]]
    hop = keys.index("hop")
    assert part["differences"][1][0][hop][0] == 40.0  # row 2, GDPO, minus row 1, SFT
    assert part["differences"][0][1][hop][0] == 2.5  # GDPO minus Origin: 21 - 20 of 40
    lines = score_tables.table_rows(layout, layout.scale.tables["table2"])
    forgetting = score_tables.differences(scores, "table2")
    shown = columns(layout, layout.scale.tables["table2"])
    for c, column in enumerate(shown):
        cell = forgetting[lines[2], column.key]
        assert part["differences"][0][1][c] == documents.rounded(cell.mean, cell.low, cell.high)
    assert [len(below) for below in part["differences"]] == [5, 4, 3, 2, 1, 0]


def test_rows_have_the_colours_of_the_figures(layout):
    rows = documents.score_part(Scores(layout), "table2")["rows"]
    assert [row["series"] for row in rows] == [-1, 0, 1] * 2
    assert [row["seeds"] for row in rows[:3]] == [1, 2, 2]


def test_bounds_are_joined_to_their_number(tmp_path):
    rows = [{"metric": "steps", "SFT": "3", "SFT_low": "2", "SFT_high": "4", "step_low": "x"}]
    write_csv(tmp_path / "t.csv", list(rows[0]), rows)
    assert documents.csv_part(tmp_path / "t.csv") == {
        "columns": ["metric", "SFT", "step_low"],
        "rows": [["steps", ["3", "2", "4"], "x"]],
    }


# --- the page


def test_same_results_give_the_same_bytes(layout, tmp_path):
    sizes = [explorer.write(layout, tmp_path / name) for name in ("a", "b")]
    first, second = (files_below(tmp_path / name) for name in ("a", "b"))
    assert first == second and sizes[0] == sizes[1]
    assert sizes[0] == {"files": len(first), "bytes": sum(map(len, first.values()))}


def test_the_page_names_scale_and_commit_and_no_server(layout):
    steps.explore(layout.scale)
    page = (layout.explorer / "index.html").read_text()
    assert "<b>micro</b>" in page and f"<code>{CODE}</code>" in page
    assert "connect-src" not in page and "default-src 'none'" in page
    for source in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert source in ("#main", "data:,") or (layout.explorer / source).is_file()
    record = json.loads((layout.explorer / "provenance.json").read_text())
    assert record["step"] == "explore" and record["bytes"] > 1_000_000


def test_every_file_that_the_page_reads_is_an_input(layout):
    """What is written by hand here is all that there is, so that a file that is read and not declared is missing."""
    named = {path.as_posix() for path in explorer.inputs(layout)}
    assert {layout.runs.as_posix(), (layout.root / "claims.csv").as_posix()} <= named
    assert {layout.groups("metakl").as_posix(), layout.benchmark("hop", "test").as_posix()} <= named
    assert {layout.samples(run, "test").as_posix() for run in items.shown_runs(layout)} <= named


def test_a_missing_input_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gdpo", "explore", "--scale", "micro"])
    monkeypatch.setattr(terminal, "_terminal", sys.stderr)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "Traceback" not in said
    assert not list(tmp_path.rglob("explorer*"))


def test_a_torn_input_leaves_the_last_page(layout):
    steps.explore(layout.scale)
    before = files_below(layout.explorer)
    (layout.root / "claims.csv").write_text("id\n")
    with refused(path=layout.root / "claims.csv", found="no column"):
        steps.explore(layout.scale)
    assert files_below(layout.explorer) == before
    assert [path.name for path in layout.root.iterdir() if path.name.startswith(".")] == []
    assert read_csv(layout.root / "cost.csv")
