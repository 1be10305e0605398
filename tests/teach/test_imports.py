"""Judged solutions become groups whose rewards follow the judgements, and are found to answer a benchmark."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gdpo.config import load_scale
from gdpo.errors import UserError
from gdpo.evaluate.steps import trained_on
from gdpo.layout import Layout, Run
from gdpo.metakl import sources
from gdpo.metakl.steps import benchmark
from gdpo.records import write_records
from gdpo.schema import Reward, TrainSet
from gdpo.teach.imports import read_groups_file

SETTINGS = Reward(correctness=1.0, format=0.5, length=0.5, knee=10, limit=20, think="required")
ROW = {
    "question": "What is 1+1?",
    "ground_truth": "1+1 = 2\nA: 2",
    "6b_finetuning": {"is_correct": True, "solution": "1+1 = <<1+1=2>>2\nA: 2"},
    "175b_finetuning": {"is_correct": False, "solution": "1+1 = 3\nA: 3"},
}
FILE = "gsm8k_model_solutions/test.jsonl"
MIRROR = Path(os.environ["GDPO_MIRROR"]) if "GDPO_MIRROR" in os.environ else sources.BESIDE


JUDGED = TrainSet(display="j", select="import", size=2000, domain="math", path=FILE, format="gsm8k-model-solutions")
PLAIN = TrainSet(display="p", select="import", size=10, domain="math", path="x.jsonl")


def written(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_judgements_become_rewards(tmp_path: Path) -> None:
    path = written(tmp_path / "judged.jsonl", ROW)
    [group] = read_groups_file(path, JUDGED, lambda _: 15, SETTINGS, "Box it.")
    assert group.id == "judged-1"
    assert group.prompt == [{"role": "user", "content": "What is 1+1?\n\nBox it."}]
    assert group.completions[0] == "<think>\n1+1 = 2\n</think>\n\n\\boxed{2}"
    # correctness 1 or 0, format 0.5, length 0.5 * (20 - 15) / (20 - 10) = 0.25
    assert group.rewards == [1.75, 0.75]
    assert [part.verdict for part in group.parts] == ["right", "wrong"]


def test_plain_groups_keep_their_rewards(tmp_path: Path) -> None:
    row = {"prompt": "1+1?", "completions": ["2", "3"], "rewards": [0.3, -1.0]}
    [group] = read_groups_file(written(tmp_path / "mine.jsonl", row), PLAIN, len, SETTINGS)
    assert group.prompt == [{"role": "user", "content": "1+1?"}]
    assert group.rewards == [0.3, -1.0]
    assert group.parts == []


@pytest.mark.parametrize(
    ("trainset", "row", "message"),
    [
        (JUDGED, {"question": "Q", "a": ROW["6b_finetuning"]}, "line 1: found 1 completions, expected at least two"),
        (JUDGED, {"a": ROW["6b_finetuning"]}, "line 1: found no field 'question'"),
        (PLAIN, {"prompt": "Q", "completions": ["a", "b"]}, "line 1: found no field 'rewards'"),
        (
            PLAIN,
            {"prompt": "Q", "completions": ["a", "b"], "rewards": [1.0]},
            "line 1, group: expected a reward per completion",
        ),
        (
            PLAIN,
            {"prompt": "Q", "completions": ["a", "b"], "rewards": [1.0, float("nan")]},
            "line 1, rewards.1: Input should be a finite number",
        ),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, trainset: TrainSet, row: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_groups_file(written(tmp_path / "bad.jsonl", row), trainset, len, SETTINGS)


@pytest.mark.skipif(not (MIRROR / FILE).exists(), reason="no mirror of the benchmarks (set GDPO_MIRROR)")
def test_a_run_on_imported_test_solutions_loses_that_column(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    scale = load_scale("smol")
    scale = scale.model_copy(update={"trainsets": {**scale.trainsets, "imported": JUDGED}})
    layout = Layout(scale)
    groups = read_groups_file(MIRROR / FILE, JUDGED, len, SETTINGS, scale.sources["gsm8k-train"].instruction)
    assert len(groups) == 1319
    assert {len(group.completions) for group in groups} == {4}
    write_records(layout.groups("imported"), groups)
    benchmark(scale, MIRROR)
    dropped = trained_on(layout, Run(scale.students[0], "imported", "gdpo", 0), "test")
    assert dropped == {"gsm8k": "1319 of its 1319 items are in training set imported"}
