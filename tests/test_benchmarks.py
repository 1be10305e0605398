"""The benchmark harness: its data fit all trainers alike, and a quick run gives a complete table. No time is judged."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.cases import CASES, SCALES, Bench
from benchmarks.data import (
    EOS,
    GROUP_SIZE,
    Size,
    as_pairs,
    as_rows,
    build_tokenizer,
    make_groups,
    useful_tokens,
)

ROOT = Path(__file__).resolve().parent.parent
SHAPES = [shape for scale in SCALES.values() for shape in scale.shapes]


def test_text_and_ids_convert_exactly():
    tokenizer = build_tokenizer(256)
    groups = make_groups(SCALES["quick"].shapes[0], 256)
    for row, group in zip(as_rows(groups), groups, strict=True):
        assert tokenizer(row["prompt"])["input_ids"] == group["prompt_ids"]
        assert tokenizer.decode(group["prompt_ids"]) == row["prompt"]
        for text, ids in zip(row["completions"], group["completion_ids"], strict=True):
            assert [*tokenizer(text)["input_ids"], EOS] == ids


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.name} {shape.prompt}")
def test_completions_are_distinct_and_as_long_as_stated(shape):
    groups = make_groups(shape, 4096)
    assert len(groups) == shape.groups
    for group in groups:
        lengths = [len(ids) for ids in group["completion_ids"]]
        assert shape.shortest <= min(lengths) <= max(lengths) <= shape.longest
        assert len(set(map(tuple, group["completion_ids"]))) == len(set(group["rewards"])) == GROUP_SIZE
    assert groups == make_groups(shape, 4096)


def test_pairs_of_a_group():
    """Chain: each completion but the best is rejected once, each but the worst chosen once. Disjoint: each completion
    stands in one pair. The chosen one is always the better.
    """
    groups = make_groups(SCALES["quick"].shapes[0], 256)
    reward = {
        tuple(ids): value
        for group in groups
        for ids, value in zip(group["completion_ids"], group["rewards"], strict=True)
    }
    for kind, count in (("chain", GROUP_SIZE - 1), ("disjoint", GROUP_SIZE // 2)):
        pairs = as_pairs(groups, kind)
        assert len(pairs) == count * len(groups)
        chosen, rejected = ([tuple(pair[f"{side}_ids"]) for pair in pairs] for side in ("chosen", "rejected"))
        assert all(reward[better] > reward[worse] for better, worse in zip(chosen, rejected, strict=True))
        assert len(set(chosen)) == len(chosen) and len(set(rejected)) == len(rejected)
        if kind == "disjoint":
            assert sum(map(len, chosen + rejected)) == useful_tokens(groups)


@pytest.mark.parametrize("scale", SCALES)
def test_step_has_equally_many_groups_for_every_trainer(scale):
    """DPOTrainer's pairs of a step divide into its passes, and a teacher is about four times its student."""
    for bench in CASES["dpo"](SCALES[scale], "cpu"):
        shape = bench.arms["GDPO"].run.keywords["shape"]
        assert shape.groups % shape.groups_per_step == 0
        for name, per_group in (("DPO, chain", GROUP_SIZE - 1), ("DPO, disjoint", GROUP_SIZE // 2)):
            for setting in bench.arms[name].settings:
                assert per_group * shape.groups_per_step % setting["micro_batches"] == 0
    if scale != "quick":
        assert 3 < _body(SCALES[scale].teacher) / _body(SCALES[scale].model) < 6


@pytest.mark.long
def test_quick_run_writes_a_complete_table(tmp_path):
    """In a process of its own, since measurements fork from one that has run no torch operation."""
    command = [sys.executable, "-m", "benchmarks.run", "--quick", "--device", "cpu", "--out", str(tmp_path)]
    subprocess.run([*command, "--cases", "dpo", "grpo", "logprobs"], cwd=ROOT, check=True, timeout=600)
    with (tmp_path / "bench.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    benches: list[Bench] = [b for case in ("dpo", "grpo", "logprobs") for b in CASES[case](SCALES["quick"], "cpu")]
    expected = [(bench.case, bench.shape, *line) for bench in benches for line in bench.lines]
    assert [(row["case"], row["shape"], row["subject"], row["peer"]) for row in rows] == expected
    for row in rows:
        assert all(float(row[name]) > 0 for name in ("tokens_per_second", "peer_tokens_per_second", "speed"))
        if row["case"] == "dpo":
            assert 0 <= float(row["padding"]) <= float(row["peer_padding"]) < 1
    lines = (tmp_path / "bench.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2 + len(rows)

    # What was measured is the data: every trainer saw every group, in as many steps.
    measured = [json.loads(line) for line in (tmp_path / "measurements.jsonl").read_text().splitlines()]
    shapes = {shape.name: shape for shape in SCALES["quick"].shapes}
    per_group = {"GDPO": 1, "DPO, chain": GROUP_SIZE - 1, "DPO, disjoint": GROUP_SIZE // 2}
    for entry in (entry for entry in measured if entry["case"] == "dpo"):
        shape = shapes[entry["shape"]]
        assert entry["items"] == shape.groups * per_group[entry["arm"]]
        assert entry["steps"] == shape.groups // shape.groups_per_step
        assert entry["useful_tokens"] == useful_tokens(make_groups(shape, SCALES["quick"].model.vocabulary))
    for entry in (entry for entry in measured if entry["case"] == "grpo"):
        length = int(entry["shape"].split()[0])
        assert entry["useful_tokens"] == SCALES["quick"].grpo_questions * GROUP_SIZE * length
    provenance = json.loads((tmp_path / "bench.csv.provenance.json").read_text())
    assert provenance["settings"]["model"]["vocabulary"] == SCALES["quick"].model.vocabulary
    assert {"packages", "hardware", "seeds", "code"} <= set(provenance)


def _body(size: Size) -> int:
    return size.layers * (4 * size.hidden**2 + 3 * size.hidden * size.intermediate)
