"""Training sets by source, from sets written by hand."""

from __future__ import annotations

import csv
import io

import pytest

from gdpo.config.data import Source
from gdpo.config.layout import Layout
from gdpo.config.loader import load_scale
from gdpo.config.models import TrainSet
from gdpo.config.tables import Cell, Study, Table
from gdpo.core.files import write_jsonl
from gdpo.report import tables
from gdpo.report.scores import Scores
from gdpo.report.source_table import trainsets


@pytest.fixture
def layout(tmp_path, monkeypatch):
    """A pool of 3 facts, 2 chains; `metakl` has a fact and both chains, `union` imported groups of harmful requests."""
    monkeypatch.chdir(tmp_path)
    scale = load_scale("micro")
    made = {
        "scores": Table(title="s", rows=[Cell(row="Origin"), Cell(row="x", trainset="metakl", method="gdpo")]),
        "compared": Table(title="c", kind="comparison", rows=[Cell(row="x", trainset="safety-only", method="gdpo")]),
        "sources": Table(title="By source", kind="sources"),
    }
    imported = TrainSet(display="L+S", select="import", size=2, domain="safety", paths=["x"])
    studies = {"s": Study(rows=[Cell(row="y", trainset="union", method="gdpo")])}
    changes = {"tables": made, "studies": studies, "trainsets": scale.trainsets | {"union": imported}}
    layout = Layout(scale.model_copy(update=changes))
    fact, chain = {"domain": "general", "source": "fact"}, {"domain": "math", "source": "chain2"}
    write_jsonl(layout.pool, [fact, fact, chain, chain, fact])
    write_jsonl(layout.trainset("metakl"), [chain, fact, chain])
    write_jsonl(layout.groups("union"), [{"domain": "safety"}, {"domain": "safety"}])
    return layout


def test_questions_are_counted_by_source_and_grouped_by_domain(layout):
    text = tables.texts(Scores(layout), "sources", "")
    rows = list(csv.DictReader(io.StringIO(text[".csv"])))
    assert [tuple(row.values()) for row in rows] == [
        ("math", "chain2", "2", "0", "2"),
        ("general", "fact", "3", "0", "1"),
        ("safety", "L+S", "0", "2", "0"),
        ("all", "total", "5", "2", "3"),
    ]
    assert list(rows[0]) == ["domain", "source", "pool", "union", "metakl"]
    assert "| MetaKL |" in text[".md"]
    assert text[".tex"].count(r"\midrule") == 4


def test_training_sets_come_in_configuration_order(layout):
    """`safety-only` is named by a comparison alone."""
    assert trainsets(layout) == ["union", "metakl"]
    assert tables.inputs(layout, "sources") == [layout.pool, layout.groups("union"), layout.trainset("metakl")]


def test_real_sources_show_decontaminated_and_published_counts(layout):
    """Of 3 MMLU and 2 GSM8K questions a benchmark asks one; `metakl` has 1 of 4 from MMLU: 25.0%. The paper took 1,193
    of its 5,661 from MMLU, and none from GSM8K; its other twelve sources are not here."""
    scale = layout.scale
    real = Source(domain="general", reader="mmlu", grader="letter", licence="MIT", mirror="x", pool=True)
    trainsets = {name: entry for name, entry in scale.trainsets.items() if name != "union"}
    changes = {"world": None, "sources": {"mmlu-validation": real, "gsm8k-train": real}, "trainsets": trainsets}
    layout = Layout(scale.model_copy(update=changes | {"studies": {}}))
    mmlu, gsm8k = {"domain": "general", "source": "mmlu-validation"}, {"domain": "math", "source": "gsm8k-train"}
    write_jsonl(layout.pool, [mmlu, mmlu, mmlu, gsm8k, gsm8k])
    write_jsonl(layout.decontaminated, [mmlu, mmlu, gsm8k, gsm8k])
    write_jsonl(layout.trainset("metakl"), [mmlu, gsm8k, gsm8k, gsm8k])
    text = tables.texts(Scores(layout), "sources", "")
    rows = list(csv.DictReader(io.StringIO(text[".csv"])))
    assert [tuple(row.values()) for row in rows] == [
        ("math", "gsm8k-train", "2", "2", "3", ""),
        ("general", "mmlu-validation", "3", "2", "1", "1193"),
        ("all", "total", "5", "4", "4", ""),
    ]
    assert list(rows[0]) == ["domain", "source", "pool", "decontaminated", "metakl", "paper"]
    assert " 1 (25.0%) |" in text[".md"]
    assert "of its 5661 questions" in text[".md"] and "NuminaMath-CoT 1503, OpenAI-MATH 44" in text[".md"]
    assert layout.decontaminated in tables.inputs(layout, "sources")
