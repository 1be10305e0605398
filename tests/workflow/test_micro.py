"""The real Snakefile on micro: dry runs, and one complete run from nothing to tables 1 and 2."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def snakemake(directory, *arguments):
    command = ["snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(directory), *arguments]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": path})


@pytest.mark.parametrize("scale", ["micro", "tiny", "smol", "paper"])
def test_every_scale_dry_runs(tmp_path, scale):
    done = snakemake(tmp_path, "-n", "results/table1.csv", "results/table2.csv", "--config", f"scale={scale}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "publish" in done.stdout


def test_the_slurm_profile_dry_runs(tmp_path):
    profile = str(ROOT / "workflow" / "profiles" / "slurm")
    done = snakemake(tmp_path, "-n", "results/table2.csv", "--profile", profile, "--config", "scale=paper")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_limit_has_its_own_directory(tmp_path):
    done = snakemake(tmp_path, "-n", "results/table2.csv", "--config", "scale=micro", "limit=8")
    assert "results/micro-limit8/tables/table2.csv" in done.stdout


def test_a_misspelt_scale_is_one_sentence(tmp_path):
    done = snakemake(tmp_path, "-n", "--config", "scale=mircro")
    assert done.returncode != 0
    assert "did you mean 'micro'?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def micro(tmp_path_factory):
    """A directory in which micro was run from nothing, on two cores."""
    directory = tmp_path_factory.mktemp("micro")
    targets = ["results/table1.csv", "results/table2.csv"]
    done = snakemake(directory, "--cores", "2", *targets, "--config", "scale=micro")
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


@pytest.mark.slow
def test_micro_runs_from_pool_to_tables(micro):
    rows = list(csv.DictReader((micro / "results/table2.csv").open()))
    named = ["Origin", "hard-only", "safety-only", "union", "MetaGDPO", "MetaGDPO (literal)"]
    assert [row["row"] for row in rows] == named * 2
    assert all(0 <= float(row["overall_avg"]) <= 100 for row in rows)
    provenance = json.loads((micro / "results/table2.csv.provenance.json").read_text())
    trained = {row["overall_avg"] for row in rows if row["seeds"] != "none"}
    assert len(trained) > 1  # training moved the models, so that equal tables mean equal runs
    assert {"config_hash", "code", "packages", "seeds", "hardware", "wall_seconds"} <= set(provenance)


@pytest.mark.slow
def test_no_benchmark_item_is_ever_trained_on(micro):
    root = micro / "results/micro"
    tested = {json.loads(line)["question"] for p in root.glob("benchmarks/*/*.jsonl") for line in p.open()}
    pool = {json.loads(line)["question"] for line in (root / "pool.jsonl").open()}
    trained = {json.loads(line)["prompt"][-1]["content"] for p in root.glob("groups/*.jsonl") for line in p.open()}
    assert tested and trained
    assert not tested & pool
    assert trained <= pool


@pytest.mark.slow
def test_scores_follow_from_samples_alone(micro):
    root = micro / "results/micro"
    scores = sorted(root.glob("scores/*/*/*/*.json"))
    checked = 0
    for path in (p for p in scores if "provenance" not in p.name):
        score = json.loads(path.read_text())
        run = score["run"]
        samples = root / "samples" / run["student"] / run["trainset"] / run["method"] / str(run["seed"])
        for name, entry in score["benchmarks"].items():
            verdicts = [json.loads(line)["verdict"] for line in (samples / f"{name}.jsonl").open()]
            assert entry["score"] == verdicts.count("right") / len(verdicts)
            checked += 1
    assert checked


@pytest.mark.slow
def test_a_second_call_has_nothing_to_do(micro):
    done = snakemake(micro, "-n", "results/table2.csv", "--config", "scale=micro")
    assert "Nothing to be done" in done.stdout + done.stderr


@pytest.mark.slow
def test_two_runs_from_cold_give_identical_tables_on_any_number_of_cores(micro, tmp_path):
    targets = ["results/table1.csv", "results/table2.csv"]
    done = snakemake(tmp_path, "--cores", "1", *targets, "--config", "scale=micro")
    assert done.returncode == 0, done.stdout + done.stderr
    samples = [path.relative_to(micro) for path in micro.glob("results/micro/samples/**/*.jsonl")]
    retained = ["results/table1_retention.csv", "results/table2_retention.csv"]
    assert len(samples) == 13 * (2 + 2 * 5 * 2)
    for target in [*targets, *retained, *samples]:
        assert (tmp_path / target).read_bytes() == (micro / target).read_bytes(), target
