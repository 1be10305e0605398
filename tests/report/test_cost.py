"""What results took, from records written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdpo.config.layout import Layout
from gdpo.config.loader import load_scale
from gdpo.core.files import write_json
from gdpo.report.cost import COLUMNS, records, rows


def record(step, wall, peak=100):
    return {"step": step, "wall_seconds": wall, "cpu_seconds": wall / 2, "peak_memory_mb": peak}


@pytest.fixture
def layout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Layout(load_scale("micro"))


def test_steps_are_added_up_and_training_by_method(layout):
    """Two GDPO runs of 3 s and 4 s, one of the sweep of 5 s, one SFT; both seeds of GDPO scored, once on validation
    items too: 3 results about 2 runs. work/, what a kill left, and the cost's own record do not count."""
    found = {
        "pool.jsonl.provenance.json": record("pool", 1.0) | {"unavailable": {"gpqa": "it is gated"}},
        "benchmarks/test/gpqa.jsonl.provenance.json": record("benchmark", 0.0) | {"unavailable": "it is gated"},
        "runs/tiny-s/metakl/gdpo/0/provenance.json": record("train", 3.0, 300),
        "runs/tiny-s/metakl/gdpo/1/provenance.json": record("train", 4.0, 200),
        "runs/tiny-s/metakl/gdpo~0.001/100/provenance.json": record("train", 5.0),
        "runs/tiny-s/union/sft/0/provenance.json": record("train", 6.0),
        "scores/tiny-s/metakl/gdpo/0.json.provenance.json": record("evaluate", 0.5),
        "scores/tiny-s/metakl/gdpo/1.json.provenance.json": record("evaluate", 0.5),
        "validation/scores/tiny-s/metakl/gdpo/1.json.provenance.json": record("evaluate", 0.5),
        "work/train/x/model/provenance.json": record("train", 99.0),
        "runs/tiny-s/union/sft/.0.7.partial/provenance.json": record("train", 99.0),
        "models/.tiny-s.7.old.partial/provenance.json": record("model", 99.0),
        "cost.csv.provenance.json": record("cost", 99.0),
    }
    for path, content in found.items():
        write_json(layout.root / path, content)
    table = {row["step"]: list(row.values())[1:] for row in rows(records(layout))}
    assert table == {
        "benchmark": ["1", "", "0.0", "0.0", "100"],
        "evaluate": ["3", "2", "1.5", "0.8", "100"],
        "pool": ["1", "", "1.0", "0.5", "100"],
        "train gdpo": ["2", "2", "7.0", "3.5", "300"],
        "train gdpo, sweep": ["1", "1", "5.0", "2.5", "100"],
        "train sft": ["1", "1", "6.0", "3.0", "100"],
        "all": ["9", "4", "20.5", "10.2", "300"],
    }
    assert list(rows(records(layout))[0]) == COLUMNS


def test_cost_of_no_results_is_empty():
    assert rows([]) == []
    assert rows([(Path("tables/table1.csv.provenance.json"), record("table", 2.0))])[0]["runs"] == ""
