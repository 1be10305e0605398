"""What runs took, from train logs and provenance written by hand."""

from __future__ import annotations

import pytest

from gdpo.config.layout import Layout, Run
from gdpo.core.files import read_csv, write_json
from gdpo.core.provenance import provenance_path
from gdpo.report import steps, trained_runs
from tests.seeded import two_seeds

RUN = Run("tiny-s", "metakl", "gdpo", 0)
GPU = {"hardware": {"gpu": "Big GPU", "cpu": "Z80"}, "wall_seconds": 12.5}
CPU = {"hardware": {"cpu": "Z80", "machine": "x86_64"}, "wall_seconds": 3.25}


@pytest.fixture
def layout(tmp_path, monkeypatch):
    """One run on a GPU, of which everything is known, and one on a CPU whose log says little and that is not scored."""
    monkeypatch.chdir(tmp_path)
    layout = Layout(two_seeds())
    log = {"groups": 8, "skipped_groups": 2, "too_long": 1, "steps": 4, "tokens": 900, "seconds": 10.5}
    log |= {"device": "Big GPU", "memory_mb": {"before": 100, "peak": 700}}
    write_json(layout.run(RUN) / "train.json", log)
    write_json(layout.run(RUN) / "provenance.json", GPU)
    write_json(layout.score(RUN, "test"), {})
    write_json(provenance_path(layout.score(RUN, "test")), CPU)
    other = Run("tiny-s", "metakl", "gdpo", 1)
    write_json(layout.run(other) / "train.json", {"steps": 4, "seconds": 9.0})
    write_json(layout.run(other) / "provenance.json", CPU)
    return layout


def test_runs_table_has_a_row_for_each_finished_run(layout):
    first, second = trained_runs.rows(layout)
    assert first == {
        "student": "tiny-s", "trainset": "metakl", "method": "gdpo", "seed": "0", "groups": "8", "skipped_groups": "2",
        "too_long": "1", "steps": "4", "tokens": "900", "seconds": "10.5", "memory_before_mb": "100",
        "memory_peak_mb": "700", "device": "Big GPU", "hardware": "Big GPU", "evaluate_seconds": "3.25",
    }  # fmt: skip
    assert (second["seed"], second["hardware"], second["seconds"]) == ("1", "Z80", "9.0")
    assert {second[key] for key in ("groups", "too_long", "memory_peak_mb", "device", "evaluate_seconds")} == {""}


def test_runs_are_those_of_tables_and_studies_without_grids(layout):
    """The study over the grid has runs of its own, METHOD~RATE, which no table shows."""
    shown = trained_runs.trained(layout)
    assert len(shown) == len(set(shown)) and RUN in shown
    assert not any(run.is_origin or "~" in run.method for run in shown)
    assert {run.method for run in layout.selected_runs(layout.scale.studies["group_size"])} - {"origin"} <= {
        run.method for run in shown
    }
    assert layout.score(RUN, "test") in trained_runs.inputs(layout) and layout.run(RUN) in trained_runs.inputs(layout)


def test_runs_step_writes_csv_and_provenance(layout):
    steps.runs(layout.scale)
    assert read_csv(layout.runs) == trained_runs.rows(layout)
    assert provenance_path(layout.runs).exists()
