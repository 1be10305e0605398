"""A user's own scale, which extends one of ours: a teacher at an endpoint, and groups from a file. Dry runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from gdpo.config.loader import load_scale
from tests.refusal import refused

ROOT = Path(__file__).resolve().parents[2]
FAR = {"display": "Far", "endpoint": {"base_url": "http://127.0.0.1:9/v1", "model": "m"}}


def scale(directory: Path, **changes) -> Path:
    path = directory / "mine.yaml"
    path.write_text(yaml.safe_dump({"scale": "mine", "extends": "micro"} | changes))
    return path


def planned(directory: Path, path: Path, *targets: str) -> str:
    command = ["snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(directory), "-n", *targets]
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = {**os.environ, "PATH": paths, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, "--config", f"scale={path}"], capture_output=True, text=True, env=given)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def jobs(plan: str) -> Counter:
    return Counter(re.findall(r"^rule (\w+):$", plan, re.MULTILINE))


def test_a_teacher_at_an_endpoint_is_neither_made_nor_scored(tmp_path):
    path = scale(tmp_path, models={"far": FAR}, respond={"teacher": "far"})
    plan = planned(tmp_path, path, "all", "figures")
    assert jobs(plan)["respond"] > 0
    assert jobs(plan)["model"] == 3  # the students tiny-s, tiny-m and tiny-s-instruct
    assert "models/far" not in plan
    assert "far/none/origin" not in plan


def test_imported_groups_wait_for_the_benchmarks(tmp_path):
    mine = {"display": "Mine", "select": "import", "domain": "math", "size": 2, "paths": ["mine.jsonl"]}
    path = scale(tmp_path, trainsets={"mine": mine})
    assert jobs(planned(tmp_path, path, "results/mine/groups/mine.jsonl")) == Counter(
        benchmark=1, import_groups=1, model=1
    )


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"students": ["far"]}, "students"),
        ({"student_sets": {"study": ["far"]}}, "student_sets.study"),
        ({"tables": {"t": {"title": "T", "rows": [{"row": "Far", "model": "far"}]}}}, "tables.t.rows.0.model"),
    ],
)
def test_trained_or_scored_model_at_endpoint_is_refused(tmp_path, changes, key):
    with refused(key=key, found="'far', which is at an endpoint", expected="a model with weights"):
        load_scale(scale(tmp_path, models={"far": FAR}, **changes))


def test_a_scale_cannot_extend_itself(tmp_path):
    with refused(path="mine.yaml", key="extends", problem="the scale extends itself"):
        load_scale(scale(tmp_path, extends="mine"))
