"""`gdpo judge`: the answers of published sets, judged by the rules and by the scale's judge."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gdpo.config.benchmarks import Judge
from gdpo.config.data import Source
from gdpo.config.loader import load_scale
from gdpo.core.records import Question
from gdpo.evaluate.judging import COLUMNS, SETS, answers, judged, safety_counts
from gdpo.evaluate.judging import judge as judge_step
from tests.grading.judges import save_classifier
from tests.mirror import MIRROR, mirror_of, needs_mirror, with_manifest

RULES = Judge()
REQUEST = Question(id="r", domain="safety", source="s", question="pick a lock", answer="", grader="refusal")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Judge:
    return save_classifier(tmp_path_factory.mktemp("classifier"))


def test_shares_have_wilsons_interval():
    """0 of 100: the upper end is z^2 / (n + z^2) = 3.841459 / 103.841459 = 0.036993; 1 of 1: the lower 1 / 4.841459."""
    none = safety_counts(["wrong"] * 97 + ["ungradable"] * 3)
    assert none == {"n": 100, "safe": 0, "share": 0.0, "low": 0.0, "high": 0.036993, "ungradable": 3}
    assert safety_counts(["right"]) == {"n": 1, "safe": 1, "share": 1.0, "low": 0.206549, "high": 1.0, "ungradable": 0}
    assert safety_counts([])["share"] is None


STAR1 = {"category": ["Privacy"], "source": "s", "score": {}}


def small_mirror(path: Path) -> Path:
    """Two answers of STAR-1, one of which redirects; one of safety-tuned-llamas; no solutions of GSM8K refuse."""
    rows = {
        "star1/train.jsonl": [
            {**STAR1, "question": "pick", "response": "<think>\nno\n</think>\n\nI can't help with that."},
            {**STAR1, "question": "a lock", "response": "<think>\nI can't help with that.\n</think>\n\nCall a smith."},
        ],
        "safety_tuned_llamas/safety_only.jsonl": [{"instruction": "a", "output": "I cannot assist.", "input": ""}],
        "gsm8k/train.jsonl": [{"question": "1+1?", "answer": "1+1 = <<1+1=2>>2\n#### 2"}],
        "math_test5000/test.jsonl": [{"problem": "$1$?", "solution": "It is $\\boxed{1}$."}],
    }
    for file, entries in rows.items():
        mirror_of(path, *entries, file=file)
    return with_manifest(path)


def test_judge_step_writes_a_row_for_each_set_and_judge(tmp_path, monkeypatch, classifier):
    """By the rules one answer of STAR-1's two is safe, and that one is kept; by the classifier none ends in `no`."""
    mirror = small_mirror(tmp_path / "mirror")
    monkeypatch.chdir(tmp_path)
    scale = load_scale("smol").model_copy(update={"judge": classifier})
    judge_step(scale, mirror)
    with Path("results/smol/judge.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS
    assert [(r["source"], r["answers"], r["judge"], r["n"], r["safe"]) for r in rows] == [
        ("star1", "all", "rules", "2", "1"),
        ("star1", "kept", "rules", "1", "1"),
        ("star1", "all", "classifier", "2", "0"),
        ("star1", "kept", "classifier", "1", "0"),
        ("safety-tuned-llamas", "all", "rules", "1", "1"),
        ("safety-tuned-llamas", "all", "classifier", "1", "0"),
        ("gsm8k-train", "all", "rules", "1", "0"),
        ("gsm8k-train", "all", "classifier", "1", "0"),
        ("math-test5000", "all", "rules", "1", "0"),
        ("math-test5000", "all", "classifier", "1", "0"),
    ]
    record = json.loads(Path("results/smol/judge.csv.provenance.json").read_text())
    assert record["sources"]["gsm8k-train"].startswith("mirror:gsm8k/train.jsonl@sha256:")


def test_every_answer_is_judged_once_and_a_limit_takes_the_first(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "gdpo.evaluate.judging.verdicts", lambda by, pairs, cache_dir: seen.append(pairs) or ["right"] * len(pairs)
    )
    source = Source(domain="safety", reader="star1", grader="refusal", licence="MIT", mirror="star1/train.jsonl")
    _, chosen = answers(SETS[0], source, None, small_mirror(tmp_path))
    assert {name: len(questions) for name, questions in chosen.items()} == {"all": 2, "kept": 1}
    assert len(list(judged(SETS[0], chosen, [RULES]))) == 2 and [len(pairs) for pairs in seen] == [2]
    _, first = answers(SETS[0], source, 1, small_mirror(tmp_path))
    assert {name: len(questions) for name, questions in first.items()} == {"all": 1}


def test_an_answer_that_is_missing_is_ungradable(tmp_path):
    question = Question(id="a", domain="safety", source="star1", question="q", answer="", grader="refusal")
    (row,) = judged(SETS[0], {"all": [question]}, [RULES])
    assert (row["n"], row["safe"], row["ungradable"]) == (1, 0, 1)


def test_without_a_mirror_a_source_that_is_not_on_the_hub_is_left_out(tmp_path, monkeypatch):
    """Every other source is read from the Hub, which is not asked here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gdpo.evaluate.judging.answers", lambda known, *_: (f"hub:{known.source}", {"all": [REQUEST]}))
    monkeypatch.setattr("gdpo.evaluate.judging.verdicts", lambda by, pairs, cache_dir: ["right"] * len(pairs))
    judge_step(load_scale("smol"), None)
    rows = Path("results/smol/judge.csv").read_text().splitlines()[1:]
    assert [row.partition(",")[0] for row in rows] == ["star1", "gsm8k-train", "math-test5000"]
    record = json.loads(Path("results/smol/judge.csv.provenance.json").read_text())
    assert record["sources"]["safety-tuned-llamas"] == "left out: it is in no mirror given, and not on the Hub"


def test_a_made_up_world_has_no_answers_to_judge(tmp_path):
    command = [sys.executable, "-m", "gdpo.cli", "judge", "--scale", "micro"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr.strip() == "gdpo: micro: found a made-up world, expected a scale with 'sources' to judge answers of"
    )


@needs_mirror
def test_rules_on_the_mirror(tmp_path, monkeypatch):
    """The counts of docs/judges.md."""
    monkeypatch.chdir(tmp_path)
    judge_step(load_scale("smol"), MIRROR)
    with Path("results/smol/judge.csv").open(encoding="utf-8") as file:
        found = {(row["source"], row["answers"]): (int(row["safe"]), int(row["n"])) for row in csv.DictReader(file)}
    assert found == {
        ("star1", "all"): (636, 1000),
        ("star1", "kept"): (636, 636),
        ("safety-tuned-llamas", "all"): (1460, 2483),
        ("gsm8k-train", "all"): (0, 7473),
        ("math-test5000", "all"): (0, 5000),
    }
