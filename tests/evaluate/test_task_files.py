"""The task files: one for each column, of the catalogue's sources; plain lm-eval asks and judges as our harness."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from gdpo.config.benchmarks import Benchmark
from gdpo.config.loader import load_scale
from gdpo.core.records import write_records
from gdpo.evaluate import harness
from gdpo.evaluate.harness import TASKS
from gdpo.evaluate.samples import score
from gdpo.evaluate.tasks import items
from gdpo.metakl.sources import catalogue, read_source
from tests.evaluate.spelling import ARC, GSM8K, speller
from tests.mirror import MIRROR, mirror_of, needs_mirror, with_manifest
from tests.refusal import refused

KINDS = ("gdpo_choose", "gdpo_generate", "gdpo_sample")
FILES = sorted(path for path in TASKS.glob("*.yaml") if path.stem not in KINDS)
GATED = {"gpqa-diamond", "wildjailbreak-eval"}


def metadata(path: Path) -> dict:
    return load_yaml(path)["metadata"]


def test_every_column_has_a_task_that_asks_the_same():
    """The paper's thirteen columns, AIME24 and AMC23 sampled 16 times; and smol's, the lettered ones by choices."""
    by_source = {metadata(path)["source"]: load_yaml(path) for path in FILES if not path.stem.endswith("_choose")}
    paper = load_scale("paper").benchmarks
    assert len(paper) == 13
    assert {b.source for b in paper.values()} == {s for s, task in by_source.items() if task["tag"] == "gdpo_paper"}
    assert {s for s, task in by_source.items() if task.get("repeats") == 16} == {"aime24", "amc23"}
    smol = load_scale("smol").benchmarks.values()
    assert {b.source for b in smol if b.ours} == {s for s, task in by_source.items() if task["tag"] == "gdpo_ours"}
    chosen = {metadata(path)["source"] for path in FILES if path.stem.endswith("_choose")}
    assert {b.source for b in smol if b.kind == "choose"} == chosen


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_task_file_names_a_source_of_its_kind(path):
    task, told = load_yaml(path), metadata(path)
    assert task["task"] == path.stem
    assert told["version"] == 1
    grader = catalogue()[told["source"]].grader
    if task["output_type"] == "multiple_choice":
        assert (grader, told["instruction"]) == ("letter", "")
    else:
        assert "instruction" not in told


@needs_mirror
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_task_file_reads_its_items_from_a_mirror(path):
    told = metadata(path)
    if told["source"] in GATED:
        pytest.skip("gated: in no mirror")
    documents = items.load(**told, mirror=str(MIRROR))["test"]
    questions = read_source(told["source"], catalogue()[told["source"]], MIRROR)
    assert documents["id"] == [question.id for question in questions]
    instruction = catalogue()[told["source"]].instruction
    if told.get("instruction") == "":
        assert documents[0]["question"] + f"\n\n{instruction}" == questions[0].question
    else:
        assert items.ask(documents[0]).startswith(questions[0].question)


def test_a_task_without_items_is_one_sentence():
    with refused(key="metadata", found="neither 'items' nor 'source'"):
        items.load(version=1)
    with refused(key="metadata.source", found="'arc'", expected=re.compile("one of .*arc-easy")):
        items.load(source="arc")


def test_the_environment_names_a_mirror_too(tmp_path, monkeypatch):
    mirror = mirror_of(tmp_path, *GSM8K, file="gsm8k/test.jsonl")
    monkeypatch.setenv("GDPO_MIRROR", str(mirror))
    assert len(items.load(source="gsm8k-test")["test"]) == len(GSM8K)


def test_names_of_tasks_and_tags_are_found():
    manager = TaskManager(include_path=TASKS, include_defaults=False)
    assert set(manager.all_subtasks) == {path.stem for path in FILES} | set(KINDS)
    assert set(manager.all_tags) == {"gdpo_paper", "gdpo_ours", "gdpo_choices"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The directory of a model, a mirror, and what the command lm_eval logged of three tasks, by task."""
    root = tmp_path_factory.mktemp("plain")
    student = speller(root / "student", bos_in_template=True, adds_bos=True)
    mirror_of(root / "mirror", *GSM8K, file="gsm8k/test.jsonl")
    mirror_of(root / "mirror", *ARC, file="arc_easy/train.jsonl")
    problem = {"problem": "What is 1 + 2?", "answer": "3", "solution": "It is 3.", "question": "What is 1 + 2?"}
    mirror_of(root / "mirror", problem | {"id": 1, "url": ""}, file="aime24/test.jsonl")
    mirror = with_manifest(root / "mirror")
    tasks = ["gdpo_gsm8k", "gdpo_arc_easy_choose", "gdpo_aime24"]
    command = [
        *(sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={student},dtype=float32"),
        *("--include_path", str(TASKS), "--tasks", ",".join(tasks), "--device", "cpu", "--batch_size", "4"),
        *("--metadata", json.dumps({"mirror": str(mirror)}), "--gen_kwargs", "max_gen_toks=6"),
        *("--apply_chat_template", "--log_samples", "--output_path", str(root / "out")),
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("GDPO_MIRROR", None)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    logged = {}
    for task in tasks:
        (path,) = (root / "out").rglob(f"samples_{task}_*.jsonl")
        logged[task] = sorted(map(json.loads, path.read_text().splitlines()), key=lambda row: row["doc_id"])
    (results,) = (root / "out").rglob("results_*.json")
    return student, mirror, logged, json.loads(results.read_text())["results"]


@pytest.mark.parametrize(
    ("task", "source", "benchmark"),
    [
        ("gdpo_gsm8k", "gsm8k-test", Benchmark(display="", domain="math", source="gsm8k-test", max_new_tokens=6)),
        ("gdpo_arc_easy_choose", "arc-easy", Benchmark(display="", domain="general", source="arc-easy", kind="choose")),
    ],
)
def test_plain_lm_eval_asks_and_judges_as_our_harness(plain, tmp_path, task, source, benchmark):
    student, mirror, logged, results = plain
    without = {"instruction": ""} if benchmark.kind == "choose" else {}
    questions = read_source(source, catalogue()[source].model_copy(update=without), mirror)
    write_records(tmp_path / "items.jsonl", questions)
    rows = harness.evaluate(student, "float32", {"column": (benchmark, tmp_path / "items.jsonl")}, 4)["column"]
    assert [row["id"] for row in rows] == [sample["doc"]["id"] for sample in logged[task]]
    for row, sample in zip(rows, logged[task], strict=True):
        assert (row["doc_hash"], row["prompt_hash"]) == (sample["doc_hash"], sample["prompt_hash"])
        told = {(1.0, 0.0): "right", (0.0, 1.0): "ungradable", (0.0, 0.0): "wrong"}
        assert row["verdict"] == told[sample["right"], sample["ungradable"]]
        if benchmark.kind == "generate":
            assert row["output"] == sample["filtered_resps"][0]
    assert results[task]["right,none"] == pytest.approx(score(rows)["score"])


def test_plain_lm_eval_samples_sixteen_times(plain):
    _, _, logged, results = plain
    (sample,) = logged["gdpo_aime24"]
    texts = sample["filtered_resps"][0]
    assert len(texts) == len(sample["right"]) == 16
    assert len(set(texts)) > 8
    assert results["gdpo_aime24"]["ungradable,samples"] == pytest.approx(sum(sample["ungradable"]) / 16)
