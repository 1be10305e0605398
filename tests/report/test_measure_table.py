"""The table of what training changed, from samples and measures written by hand."""

from __future__ import annotations

import json

import pytest

from gdpo.config.layout import Layout, Run, origin
from gdpo.config.loader import load_scale
from gdpo.report import measure_table
from gdpo.report.scores import Scores

SCALE = """
extends: micro
measures: {text: 2, seed: 60}
benchmarks:
  order: {chance: 0.5}
  pair: {role: untaught}
tables:
  changes:
    title: Changes
    kind: measures
    columns: [math, general, safety]
    overall: true
    rows:
      - {row: Origin}
      - {row: union, trainset: union, method: sft}
"""
VERDICTS = {"r": "right", "w": "wrong", "u": "ungradable"}


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value)


@pytest.fixture
def layout(tmp_path, monkeypatch):
    """Every benchmark has four items, right before but for the last: rrrw. After training all are as before, but those
    of `chain2`, wuwr with the third cut off, and those of `pair`, rwrw."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "measured.yaml", SCALE)
    found = Layout(load_scale("measured.yaml"))
    after = {"chain2": "wuwr", "pair": "rwrw"}
    for student in found.scale.students:
        [before] = origin(student)
        for run in (before, Run(student, "union", "sft", 0)):
            trained = run != before
            for name in found.scale.benchmarks:
                letters = after.get(name, "rrrw") if trained else "rrrw"
                rows = [{"id": str(n), "output": "", "verdict": VERDICTS[x]} for n, x in enumerate(letters)]
                write(found.samples(run, "test") / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
            nll = {name: {"nll": [1.0, None], "tokens": [2, 0]} for name in found.scale.benchmarks}
            if trained:
                nll["chain2"] = {"nll": [2.2, None], "tokens": [2, 0]}
                nll["pair"] = {"nll": [2.0, None], "tokens": [2, 0]}
            kl = {"forward": 0.5, "reverse": 0.25} if trained else {"forward": None, "reverse": None}
            text = {"nll": [4.0 if trained else 3.0], "tokens": [4]}
            new = [name for name, entry in found.scale.benchmarks.items() if entry.domain == "math"] if trained else []
            value = {"gold": nll, "text": text, "kl": kl, "cut": {"chain2": [2]}, "new_task": new}
            write(found.measures(run, "test"), json.dumps(value))
    return found


def test_row_by_hand(layout):
    """Of 13 columns chain2 loses 3 of 4 items, one each by another, an unreadable and a cut-off answer, and wins 1;
    pair loses 1 of 4. Lost: (3/4 + 1/4) / 13 = 7.69%; won: 1/4 / 13 = 1.92%. Gold answers to taught items, 12 columns:
    one changes by 1.2 nats of 2 tokens, 0.6 / 12 = 0.05; to the untaught one by 0.5. Scores of math: chain2 3/4 -> 1/4,
    -2/3 over 6 columns; the others: pair 3/4 -> 2/4, -1/3 over 7."""
    line = measure_table.table_rows(layout, layout.scale.tables["changes"])[1]
    found = measure_table.line_values(Scores(layout), line, list(layout.scale.benchmarks))
    expected = {
        "lost": 100 / 13, "won": 25 / 13, "wrong": (25 + 25) / 13, "unparseable": 25 / 13, "cut": 25 / 13,
        "untaught_lost": 25.0, "untaught_won": 0.0, "nll_gold": 0.05, "nll_untaught": 0.5, "nll_text": 0.25,
        "kl_forward": 0.5, "kl_reverse": 0.25, "transferability": (1 / 3 / 7) / (2 / 3 / 6),
    }  # fmt: skip
    assert {key: found[key] for key in expected} == pytest.approx(expected)
    assert found["lost_adjusted"] == pytest.approx(expected["lost"])  # guesses are lost in no column that lost one


def test_table_has_a_line_a_trained_row(layout):
    """The untrained student has no line: it is what the others are compared with."""
    table = measure_table.rendered(Scores(layout), "changes")
    assert [(row["model"], row["row"]) for row in table.csv_rows] == [("Tiny-S", "union"), ("Tiny-M", "union")]
    assert (table.csv_rows[0]["lost"], table.csv_rows[0]["kl_forward"]) == ("7.7", "0.500")
    assert layout.measures(Run("tiny-s", "union", "sft", 0), "test") in measure_table.inputs(layout, "changes")
