"""GRPO against GDPO, from training logs, noise, responses and samples written by hand."""

from __future__ import annotations

import csv
import io

import pytest

from gdpo.config.layout import Layout, Run
from gdpo.config.tables import Cell, Table
from gdpo.core.files import write_json, write_jsonl
from gdpo.core.provenance import provenance_path
from gdpo.report import tables
from gdpo.report.comparison import METRICS, equal_reward, first_reach, spread
from gdpo.report.scores import Scores
from tests.seeded import two_seeds

ONLINE, OFFLINE = Cell(row="GRPO", trainset="metakl", method="grpo"), Cell(row="GDPO", trainset="metakl", method="gdpo")


def curve(*rewards: float, seconds: float = 2.0) -> list[dict[str, float]]:
    """Entries every 5 steps and `seconds`."""
    return [{"step": 5 * i, "seconds": seconds * i, "completions": 0, "reward": r} for i, r in enumerate(rewards)]


def log(layout: Layout, cell: Cell, seed: int, **entries) -> None:
    write_json(layout.run(Run("tiny-s", cell.trainset, cell.method, seed)) / "train.json", entries)


@pytest.fixture
def layout(tmp_path, monkeypatch):
    """One student; each method at two seeds, half of all items right; a teacher sampled 2 times 4 completions."""
    monkeypatch.chdir(tmp_path)
    scale = two_seeds()
    table = Table(title="Compared", kind="comparison", rows=[Cell(row="Origin"), ONLINE, OFFLINE])
    layout = Layout(scale.model_copy(update={"tables": {"compared": table}, "students": ["tiny-s"]}))
    for cell, memory in ((ONLINE, 150), (OFFLINE, 120)):
        for run in layout.cell_runs("tiny-s", cell):
            for name in scale.benchmarks:
                rows = ({"id": str(i), "verdict": "right" if i < 5 else "wrong"} for i in range(10))
                write_jsonl(layout.samples(run, "test") / f"{name}.jsonl", rows)
            online = {"completions": 100 + run.seed} if cell is ONLINE else {"completions": 0}
            held = {"memory_mb": {"before": 100, "peak": memory + 100 * run.seed}}
            log(layout, cell, run.seed, seconds=30.0 if cell is ONLINE else 10.0, steps=20, **online, **held)
    write_json(layout.noise("tiny-s", "metakl", "grpo"), {"noise": 8.0, "noise_low": 6.0, "noise_high": 11.0})
    write_jsonl(layout.responses("metakl"), [{"id": str(i), "completions": list("abcde"), "gold": 1} for i in range(2)])
    write_json(provenance_path(layout.responses("metakl")), {"wall_seconds": 7.5})
    return layout


def rows_of(layout: Layout) -> dict[str, dict[str, str]]:
    titles = {metric.title: metric.key for metric in METRICS}
    rows = csv.DictReader(io.StringIO(tables.texts(Scores(layout), "compared", "")[".csv"]))
    return {titles[row["metric"]]: row for row in rows}


def test_comparison_counts_completions_and_seconds(layout):
    """GRPO samples 100 and 101 completions; the teacher 2 x (5 - 1 gold) once, in 7.5 s; 30 s is 3 times 10 s."""
    rows = rows_of(layout)
    assert (rows["online_completions"]["GRPO_low"], rows["online_completions"]["GRPO_high"]) == ("100", "101")
    assert rows["online_completions"]["GDPO"] == "0"
    assert rows["online_completions"]["ratio"] == ""
    assert [rows["teacher_completions"][key] for key in ("GRPO", "GDPO")] == ["0", "8"]
    assert [rows["teacher_seconds"][key] for key in ("GRPO", "GDPO")] == ["0.0", "7.5"]
    assert [rows["training_seconds"][key] for key in ("GRPO", "GDPO", "ratio")] == ["30.0", "10.0", "3.00"]
    assert rows["steps"]["GDPO"] == "20"
    assert set(rows["steps"]) == {
        "model", "metric", "unit", "GRPO", "GRPO_low", "GRPO_high", "GDPO", "GDPO_low", "GDPO_high", "ratio",
    }  # fmt: skip


def test_memory_is_the_first_seeds_increase(layout):
    """Later seeds' peaks are those of the process: 150 - 100 and 120 - 100 count, 250 - 100 does not."""
    memory = rows_of(layout)["memory"]
    assert [memory[key] for key in ("GRPO", "GRPO_high", "GDPO", "ratio")] == ["50", "50", "20", "2.50"]


def test_missing_measurements_are_empty(layout):
    rows = rows_of(layout)
    assert [rows["gradient_noise"][key] for key in ("GRPO", "GRPO_low", "GRPO_high", "GDPO", "ratio")] == [
        "8.00", "6.00", "11.00", "", "",
    ]  # fmt: skip
    for key in ("reached", "steps_to_reward", "seconds_to_reward", "final_reward"):
        assert rows[key]["GRPO"] == rows[key]["GDPO"] == ""
    assert "Here: Tiny-S none." in tables.texts(Scores(layout), "compared", "")[".md"]


def test_the_score_is_the_average_over_all_benchmarks(layout):
    score = rows_of(layout)["score"]
    assert (score["GRPO"], score["ratio"]) == ("50.00", "1.00")
    assert 38 < float(score["GRPO_low"]) < 50 < float(score["GRPO_high"]) < 62


def test_the_equal_reward_and_when_it_is_reached(layout):
    """From 1.0, GRPO gains 0.2 at both seeds, GDPO 0.4 and 0.04, 0.22 on average: the target is 1.0 + 0.9 * 0.2 = 1.18.

    GRPO's line from 1.0 at step 5 to 1.2 at step 10 has it at step 9.5, after 3.8 s of 4. GDPO's first seed has it at
    0.45 of its first 5 steps, 2.25, after 0.9 s of 2; the second never.
    """
    for seed in (0, 1):
        log(layout, ONLINE, seed, watch=curve(1.0, 1.0, 1.2, 1.1))
    log(layout, OFFLINE, 0, watch=curve(1.0, 1.4))
    log(layout, OFFLINE, 1, watch=curve(1.0, 1.04))
    rows = rows_of(layout)
    assert [rows["reached"][key] for key in ("GRPO", "GDPO")] == ["2", "1"]
    assert (rows["steps_to_reward"]["GRPO"], rows["seconds_to_reward"]["GRPO"]) == ("9.5", "3.8")
    assert (rows["steps_to_reward"]["GDPO"], rows["steps_to_reward"]["GDPO_high"]) == ("2.2", "2.2")
    assert rows["seconds_to_reward"]["GDPO"] == "0.9"
    assert [rows["final_reward"][key] for key in ("GRPO", "GDPO", "GDPO_low")] == ["1.100", "1.220", "1.040"]
    assert "Here: Tiny-S 1.180." in tables.texts(Scores(layout), "compared", "")[".md"]


def test_there_is_no_equal_reward_where_a_method_gains_nothing():
    assert equal_reward([[curve(1.0, 1.5)], [curve(1.0, 0.9)]]) is None
    assert equal_reward([[curve(1.0, 1.5)], [[]]]) is None
    assert equal_reward([]) is None
    assert first_reach(curve(1.0, 1.5), None, "step") is None
    assert first_reach(curve(1.0, 0.5, 0.9), 1.1, "step") is None
    assert first_reach(curve(1.0, 0.5), 0.8, "step") == 0
    assert spread([None, None]) is None


def test_inputs_and_files(layout):
    found = tables.inputs(layout, "compared")
    for seed in layout.scale.seeds:
        assert layout.run(Run("tiny-s", "metakl", "grpo", seed)) in found
    assert layout.noise("tiny-s", "metakl", "gdpo") in found
    assert layout.noise("tiny-s", "none", "origin") not in found
    assert layout.responses("metakl") in found
    assert len(found) == len(set(found))
    names = [path.name for path in tables.files(layout.scale.tables["compared"], layout.root / "x")]
    assert names == ["x.csv", "x.md", "x.tex"]
    text = tables.texts(Scores(layout), "compared", "")[".tex"]
    assert "training & s & 30.0 & 10.0 & 3.00" in text
