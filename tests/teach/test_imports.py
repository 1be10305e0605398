"""Judged solutions become groups whose rewards follow the judgements, and are found to answer a benchmark."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gdpo.config import Reward, Source
from gdpo.errors import UserError
from gdpo.metakl import sources
from gdpo.metakl.sources import forbidden_benchmarks, read_source
from gdpo.teach.imports import gsm8k_model_solutions, questions_of, read_groups_file

SETTINGS = Reward(correctness=1.0, format=0.5, length=0.5, knee=10, limit=20, think="required")
ROW = {
    "question": "What is 1+1?",
    "ground_truth": "1+1 = 2\nA: 2",
    "6b_finetuning": {"is_correct": True, "solution": "1+1 = <<1+1=2>>2\nA: 2"},
    "175b_finetuning": {"is_correct": False, "solution": "1+1 = 3\nA: 3"},
}
FILE = "gsm8k_model_solutions/test.jsonl"
MIRROR = Path(os.environ["GDPO_MIRROR"]) if "GDPO_MIRROR" in os.environ else sources.BESIDE


def test_judgements_become_rewards(tmp_path: Path) -> None:
    path = tmp_path / "judged.jsonl"
    path.write_text(json.dumps(ROW) + "\n")
    [group] = read_groups_file(path, gsm8k_model_solutions, "math", lambda _: 15, SETTINGS, "Box it.")
    assert group.id == "judged-1"
    assert group.prompt == [{"role": "user", "content": "What is 1+1?\n\nBox it."}]
    assert group.completions[0] == "<think>\n1+1 = 2\n</think>\n\n\\boxed{2}"
    # correctness 1 or 0, format 0.5, length 0.5 * (20 - 15) / (20 - 10) = 0.25
    assert group.rewards == [1.75, 0.75]
    assert [part.verdict for part in group.parts] == ["right", "wrong"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "Q", "a": ROW["6b_finetuning"]}, "line 1: found 1 completions, expected at least two"),
        ({"a": ROW["6b_finetuning"]}, "line 1: found no field 'question'"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict, message: str) -> None:
    path = tmp_path / "judged.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=message):
        read_groups_file(path, gsm8k_model_solutions, "math", len, SETTINGS)


@pytest.mark.skipif(not (MIRROR / FILE).exists(), reason="no mirror of the benchmarks (set GDPO_MIRROR)")
def test_real_solutions_forbid_the_benchmark_they_answer() -> None:
    def questions(split: str) -> list:
        settings = Source(
            domain="math", reader="gsm8k", grader="math", licence="MIT", mirror=f"gsm8k/{split}.jsonl",
            instruction="Box it.",
        )  # fmt: skip
        return read_source(split, settings, MIRROR)

    groups = read_groups_file(MIRROR / FILE, gsm8k_model_solutions, "math", len, SETTINGS)
    assert len(groups) == 1319
    assert {len(group.completions) for group in groups} == {4}
    benchmarks = {"gsm8k": questions("test"), "train": questions("train")}
    assert forbidden_benchmarks(questions_of(groups), benchmarks, ["Box it."]) == {"gsm8k"}
