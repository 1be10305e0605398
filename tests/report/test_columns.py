"""Columns of ours and columns that cannot be had: shown where they belong, and in no average, claim or figure."""

from __future__ import annotations

import csv
import io

import pytest

from gdpo.config.layout import Layout, Run
from gdpo.config.loader import load_scale
from gdpo.core.files import write_csv, write_json, write_jsonl
from gdpo.core.provenance import provenance_path
from gdpo.report import claims, figures, score_display, steps, tables
from gdpo.report.claims.claim_runs import NotTestable, benchmarks
from gdpo.report.columns import averaged_columns, column_notes, unavailable_notes
from gdpo.report.figures.common import averages, validation_benchmarks
from gdpo.report.rendered_table import to_terminal
from gdpo.report.scores import Scores
from tests.seeded import two_seeds

WHY = "its source is gated, and no token was given."


def changed(scale, **benchmarks):
    """The scale with fields of some of its benchmarks changed."""
    entries = {n: b.model_copy(update=benchmarks.get(n, {})) for n, b in scale.benchmarks.items()}
    return scale.model_copy(update={"benchmarks": entries})


def lose(layout: Layout, *names: str) -> None:
    """Say of benchmarks that their items cannot be had, as the step that writes the items does."""
    for name in names:
        write_jsonl(layout.benchmark(name, "test"), [])
        write_json(provenance_path(layout.benchmark(name, "test")), {"unavailable": WHY})


@pytest.fixture
def layout(tmp_path, monkeypatch):
    """Columns fact and harmful are ours; of 20 items every run has 10 right, of fact 20, of hop 4."""
    monkeypatch.chdir(tmp_path)
    layout = Layout(changed(two_seeds(), fact={"ours": True}, harmful={"ours": True}))
    for run in layout.selected_runs(layout.scale.tables["table2"]):
        for name in layout.scale.benchmarks:
            write(layout, run, name, {"fact": 20, "hop": 4}.get(name, 10))
        write_json(layout.score(run, "test"), {"benchmarks": {}})
    return layout


def write(layout: Layout, run: Run, name: str, right: int) -> None:
    rows = ({"id": str(i), "verdict": "right" if i < right else "wrong"} for i in range(20))
    write_jsonl(layout.samples(run, "test") / f"{name}.jsonl", rows)


def table(layout: Layout, end: str = ".csv") -> str:
    return tables.texts(Scores(layout), "table2", "")[end]


def rows(layout: Layout) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table(layout))))


def test_extra_columns_come_after_the_papers_and_their_average(layout):
    """Of general's three columns fact is ours: hop, pair, their average, then fact with its dagger."""
    shown = tables.columns(layout, layout.scale.tables["table2"])
    assert [c.key for c in shown][:4] == ["hop", "pair", "general_avg", "fact"]
    assert shown[3].title == "Fact†"
    assert shown[2].benchmarks == ("hop", "pair")
    assert len(shown[-1].benchmarks) == 11


def test_extra_columns_are_in_no_average(layout):
    """hop 20%, pair 50%: 35%; of 11 columns one has 20% and ten have 50%: 520 / 11 = 47.27%."""
    row = rows(layout)[0]
    assert (row["fact"], row["general_avg"], row["overall_avg"]) == ("100.00", "35.00", "47.27")
    assert "† ours: not one of the paper's columns, in no average." in table(layout, ".md")
    assert r"Fact\dag{}" in table(layout, ".tex")


def test_unavailable_column_is_empty_and_in_no_average(layout):
    """Without hop general's average is pair alone, 50%, and the overall one 50%; one note says so for all rows."""
    lose(layout, "hop")
    for run in layout.selected_runs(layout.scale.tables["table2"]):
        (layout.samples(run, "test") / "hop.jsonl").unlink()
        write_json(layout.score(run, "test"), {"benchmarks": {}, "dropped": {"hop": WHY}})
    row = rows(layout)[0]
    assert (row["hop"], row["general_avg"], row["overall_avg"]) == ("", "50.00", "50.00")
    text = table(layout, ".md")
    assert text.count("its source is gated") == 1
    assert f"Empty, and in no average: Hop ({WHY[:-1]})." in text


def test_domain_without_items_has_an_empty_average(layout):
    lose(layout, *layout.scale.domain_benchmarks("safety"))
    found = rows(layout)
    assert {row["safety_avg"] for row in found} == {""}
    assert found[0]["overall_avg"] != ""
    assert averaged_columns(layout, "safety") == []
    with pytest.raises(NotTestable, match="scale micro has no safety benchmark"):
        benchmarks(layout, "safety")
    assert averages(layout)["safety"] == []


def test_average_column_stays_when_one_benchmark_is_left(layout):
    """The paper's general columns are two; its average stays the same column whatever could be had."""
    keys = [c.key for c in tables.columns(layout, layout.scale.tables["table2"])]
    lose(layout, "hop")
    assert [c.key for c in tables.columns(layout, layout.scale.tables["table2"])] == keys


def test_claims_figures_and_sweep_average_the_same_columns(layout):
    assert "fact" not in benchmarks(layout, "overall") and "hop" in benchmarks(layout, "overall")
    lose(layout, "hop")
    assert benchmarks(layout, "general") == averages(layout)["general"] == ["pair"]
    assert {"fact", "hop"} & set(validation_benchmarks(layout)) == set()
    page = claims.markdown(layout, [])
    assert f"Empty, and in no average: Hop ({WHY[:-1]})." in page
    run = Run("tiny-s", "metakl", "gdpo", 0)
    scores = {name: {"score": score} for name, score in (("fact", 1.0), ("hop", 1.0), ("pair", 0.5), ("order", 0.25))}
    write_json(layout.score(run, "validation"), {"benchmarks": scores})
    assert steps._validation_mean(layout, run) == 0.375


def test_extra_column_does_not_change_figure_settings():
    """A figure's settings name the domains of the paper's columns alone."""
    scale = load_scale("micro")
    added = scale.benchmarks["fact"].model_copy(update={"ours": True})
    more = scale.model_copy(update={"benchmarks": {**scale.benchmarks, "extra": added}})
    assert figures.drawn(more, "group_size") == figures.drawn(scale, "group_size")


def test_sampled_columns_are_named(layout):
    sampled = Layout(changed(layout.scale, hop={"samples": 16, "temperature": 0.6}, pair={"samples": 4}))
    (note,) = column_notes(sampled, ["hop", "pair", "order"])
    assert note.startswith("Sampled several times an item: Hop 16, Pair 4.")


def test_no_notes_without_extra_or_sampled_columns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("micro", "tiny"):
        layout = Layout(load_scale(name))
        assert column_notes(layout, layout.scale.benchmarks) == unavailable_notes(layout, layout.scale.benchmarks) == []
        assert averaged_columns(layout) == list(layout.scale.benchmarks)


def test_terminal_table_is_split_into_blocks():
    """model, row, aaaa, b and c are 5, 3, 4, 3 and 3 wide, two apart: 16, 21 and 26 characters with one, two, three."""

    def terminal(rows: list[dict[str, str]], width: int) -> str:
        return to_terminal(score_display.read_back(rows, {"b"}), width)

    rows = [{"model": "M", "row": "x", "aaaa": "1.00", "b": "2.0", "c": "3.0"}]
    text = terminal(rows, 20)
    assert text == "model  row  aaaa\nM      x    1.00\n\nmodel  row  b†   c\nM      x    2.0  3.0"
    assert terminal(rows, 26).splitlines()[0] == "model  row  aaaa  b†   c"
    assert terminal(rows, 5).count("\n\n") == 2
    assert terminal([], 80) == ""


def test_terminal_table_has_no_colours_no_markup_and_whole_cells():
    """Also where rich is asked for colours; a name in brackets is shown as it is."""
    name = "a [bold]name[/bold] " + "x" * 300
    rows = [{"model": name, "row": "", "hop": "50.00", "hop_low": "40", "hop_high": "60.5", "hop_mark": "up"}]
    rows[0]["hop_best"] = "1"
    text = to_terminal(score_display.read_back(rows), 80)
    head, line = text.splitlines()
    assert line == f"{name}  -    50.00±10.25↑*"
    assert head == "model".ljust(len(name)) + "  row  hop"


def test_show_marks_extra_columns_and_fits_the_terminal(layout, capsys, monkeypatch):
    for part in tables.parts(layout.scale.tables["table2"]):
        found = list(csv.DictReader(io.StringIO(tables.texts(Scores(layout), "table2", part)[".csv"])))
        write_csv(layout.root.parent / f"table2{part}.csv", list(found[0]), found)
    monkeypatch.setenv("COLUMNS", "70")
    steps.show(layout.scale, "table2")
    told = capsys.readouterr().out
    score = told.split("Retention:")[0]
    assert max(map(len, (line for line in score.splitlines() if line.startswith("Tiny")))) <= 70
    assert score.count("Tiny-S  Origin") > 1
    assert "fact†" in score and "† ours: not one of the paper's columns" in score
    assert "harmful†" in score
