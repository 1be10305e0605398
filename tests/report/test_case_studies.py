"""Case studies: which items are chosen, and that what a model wrote is shown and never rendered."""

from __future__ import annotations

import csv
import hashlib
import io

import pytest

from gdpo.config.layout import Layout, Run
from gdpo.config.tables import Cell, Table
from gdpo.core.files import write_jsonl
from gdpo.report import tables
from gdpo.report.case_studies import fenced
from gdpo.report.scores import Scores
from tests.seeded import two_seeds

ORIGIN = Run("tiny-s", "none", "origin", 0)
TRAINED = [Run("tiny-s", "metakl", "gdpo", seed) for seed in (0, 1)]
NASTY = "<think> a | b </think>\n```\n<script>x</script>\n# head"


@pytest.fixture
def layout(tmp_path, monkeypatch):
    """Items 0-9 of fact and of hop, all wrong before and after, but for what a test says otherwise."""
    monkeypatch.chdir(tmp_path)
    scale = two_seeds()
    rows = [Cell(row="Origin"), Cell(row="MetaGDPO", trainset="metakl", method="gdpo")]
    table = Table(title="Cases, general", kind="cases", columns=["general"], rows=rows)
    layout = Layout(scale.model_copy(update={"tables": {"cases": table}, "students": ["tiny-s"]}))
    for name in ("fact", "hop"):
        asked = {"domain": "general", "source": name, "question": "who | what", "answer": "duck", "grader": "exact"}
        write_jsonl(layout.benchmark(name, "test"), ({"id": f"{name}-{i}"} | asked for i in range(10)))
        for run in (ORIGIN, *TRAINED):
            write(layout, run, name, set())
    return layout


def write(layout: Layout, run: Run, name: str, right: set[int]) -> None:
    verdicts = ("right" if i in right else "ungradable" if i == 9 else "wrong" for i in range(10))
    rows = ({"id": f"{name}-{i}", "output": f"{NASTY} {run} {i}", "verdict": v} for i, v in enumerate(verdicts))
    write_jsonl(layout.samples(run, "test") / f"{name}.jsonl", rows)


def told(layout: Layout) -> tuple[list[dict[str, str]], str]:
    text = tables.texts(Scores(layout), "cases", "")
    return list(csv.DictReader(io.StringIO(text[".csv"]))), text[".md"]


def smallest(*ids: str) -> str:
    return min(ids, key=lambda one: hashlib.sha256(one.encode()).hexdigest())


def test_items_that_changed_at_every_seed_come_first(layout):
    """Gained at seed 0: fact 1, 2, 3 and hop 4; at both: fact 2, 3. Lost: none."""
    write(layout, TRAINED[0], "fact", {1, 2, 3})
    write(layout, TRAINED[1], "fact", {2, 3, 5})
    write(layout, TRAINED[0], "hop", {4})
    gained, lost = told(layout)[0]
    assert gained["id"] == smallest("fact-2", "fact-3")
    assert (gained["items"], gained["at_every_seed"], gained["seed"]) == ("4", "2", "0")
    assert (gained["verdict_before"], gained["verdict_after"]) == ("wrong", "right")
    assert gained["output_before"] == f"{NASTY} {ORIGIN} {gained['id'][-1]}"
    assert gained["output_after"] == f"{NASTY} {TRAINED[0]} {gained['id'][-1]}"
    assert (lost["change"], lost["items"], lost["id"], lost["output_before"]) == ("lost", "0", "", "")


def test_first_seed_decides_where_no_item_changed_at_every_seed(layout):
    """Before, fact 0-3 right; seed 0 keeps 0 and 1, seed 1 all: lost at seed 0: 2 and 3, and none at every seed."""
    write(layout, ORIGIN, "fact", {0, 1, 2, 3})
    write(layout, TRAINED[0], "fact", {0, 1})
    write(layout, TRAINED[1], "fact", {0, 1, 2, 3})
    lost = told(layout)[0][1]
    assert lost["id"] == smallest("fact-2", "fact-3")
    assert (lost["items"], lost["at_every_seed"]) == ("2", "0")


def test_ungradable_counts_as_wrong_and_is_named(layout):
    for run in TRAINED:
        write(layout, run, "hop", {9})
    gained = told(layout)[0][0]
    assert (gained["id"], gained["benchmark"], gained["verdict_before"]) == ("hop-9", "Hop", "ungradable")


def test_sampled_item_is_shown_by_its_first_decisive_answer(layout):
    """Item 1: 1 of 4 right before, which is wrong; 3 of 4 after, which is right; told by answers 1 and 1."""
    for run, right in ((ORIGIN, (0,)), *((run, (1, 2, 3)) for run in TRAINED)):
        answers = {"verdicts": ["right" if i in right else "wrong" for i in range(4)]}
        rows = [{"id": "fact-1", "outputs": [f"{run.method} {i}" for i in range(4)]} | answers]
        write_jsonl(layout.samples(run, "test") / "fact.jsonl", rows)
    gained = told(layout)[0][0]
    assert (gained["id"], gained["at_every_seed"]) == ("fact-1", "1")
    assert (gained["verdict_before"], gained["output_before"]) == ("wrong; 1 of 4 right", "origin 1")
    assert (gained["verdict_after"], gained["output_after"]) == ("right; 3 of 4 right", "gdpo 1")


def test_case_markdown_fences_text_and_names_missing_cases(layout):
    for run in TRAINED:
        write(layout, run, "fact", {1})
    text = told(layout)[1]
    assert "## Tiny-S, MetaGDPO: right before, wrong after\n\nNo item changed so at seed 0." in text
    assert f"````text\n{NASTY} {ORIGIN} 1\n````" in text
    assert "```text\nwho | what\n```" in text


def test_a_fence_is_longer_than_any_in_the_text():
    assert fenced("a") == "```text\na\n```"
    assert fenced("``` and `````") == "``````text\n``` and `````\n``````"


def test_a_dropped_benchmark_is_left_out(layout):
    write(layout, TRAINED[0], "fact", {1})
    (layout.samples(TRAINED[1], "test") / "fact.jsonl").unlink()
    assert told(layout)[0][0]["items"] == "0"


def test_inputs_hold_the_questions_and_files_no_latex(layout):
    found = tables.inputs(layout, "cases")
    assert layout.benchmark("hop", "test") in found
    assert layout.benchmark("chain2", "test") not in found
    assert layout.samples(ORIGIN, "test") in found
    assert [path.name for path in tables.files(layout.scale.tables["cases"], layout.root / "x")] == ["x.csv", "x.md"]
