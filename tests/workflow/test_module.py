"""Snakemake's ways into the workflow: workflow/Snakefile, a module of another workflow, the catalogue, the schema."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from gdpo.config import file_schema
from gdpo.config.loader import load_scale, read_yaml
from gdpo.core.project import CONFIG, scale_names

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "config" / "README.md"
TABLE = "results/table2.csv"


def snakemake(directory: Path, *arguments: object) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "GDPO_PRELOAD": "no"}
    command = ["snakemake", "--directory", str(directory), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=given, cwd=directory)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def jobs(plan: str) -> Counter:
    return Counter(re.findall(r"^(?:local)?rule (\w+):$", plan, re.MULTILINE))


def imported(directory: Path, *changes: tuple[str, str]) -> Path:
    """The workflow of config/README.md that imports this one, in a file of its own."""
    (text,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    for before, after in (("path/to/the/checkout", str(ROOT)), *changes):
        assert before in text
        text = text.replace(before, after)
    path = directory / "Snakefile"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> Counter:
    """The jobs of table 2, by the root's Snakefile."""
    directory = tmp_path_factory.mktemp("root")
    return jobs(snakemake(directory, "-s", ROOT / "Snakefile", "-n", TABLE, "--config", "scale=micro"))


def test_workflow_snakefile_is_the_roots(plan, tmp_path):
    assert jobs(snakemake(tmp_path, "-s", ROOT / "workflow/Snakefile", "-n", TABLE, "--config", "scale=micro")) == plan


def test_a_module_is_imported_unchanged_and_goes_on_from_a_table(plan, tmp_path):
    text = snakemake(tmp_path, "-s", imported(tmp_path), "-n", "-p", "mine.txt")
    assert jobs(text) == plan + Counter(mine=1)
    assert re.search(r"gdpo table --scale micro +--name table2 ", text)


@pytest.mark.long
def test_a_module_may_rename_its_rules(plan, tmp_path):
    renamed = imported(tmp_path, ("use rule * from gdpo", "use rule * from gdpo as gdpo_*"))
    found = jobs(snakemake(tmp_path, "-s", renamed, "-n", "mine.txt"))
    assert found == Counter({f"gdpo_{name}": count for name, count in plan.items()}) + Counter(mine=1)


@pytest.mark.long
def test_a_job_of_a_module_runs(tmp_path):
    """The pool of micro, whose command has the scale of the import."""
    snakemake(tmp_path, "-s", imported(tmp_path), "--cores", "1", "results/micro/decontaminated.jsonl")
    assert (tmp_path / "results/micro/decontaminated.jsonl").stat().st_size > 0


def test_the_catalogues_files_say_what_the_workflow_takes(plan, tmp_path):
    described = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())
    assert described["usage"]["software-stack-deployment"]["conda"] is True
    assert (ROOT / "workflow" / "Snakefile").exists() and GUIDE.exists()
    given = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    assert load_scale(given["scale"]).scale == "tiny"
    file = ROOT / "config" / "config.yaml"
    planned = jobs(snakemake(tmp_path, "-s", ROOT / "Snakefile", "-n", TABLE, "--configfile", file))
    assert planned.keys() == plan.keys() and planned["train"] == plan["train"]


def test_the_schema_of_a_scale_is_current():
    """`make schema` writes it."""
    stored = (ROOT / "workflow" / "schemas" / "scale.schema.json").read_text(encoding="utf-8")
    assert stored == file_schema.text()


VALIDATOR = Draft202012Validator(json.loads(file_schema.text()))


@pytest.mark.parametrize("path", [*(CONFIG / f"{name}.yaml" for name in scale_names()), ROOT / "examples/import.yaml"])
def test_every_scale_fits_the_schema_and_names_it(path):
    Draft202012Validator.check_schema(VALIDATOR.schema)
    assert not [f"{list(error.absolute_path)}: {error.message}" for error in VALIDATOR.iter_errors(read_yaml(path))]
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", path.read_text(encoding="utf-8"))
    assert named and (path.parent / named[1]).resolve() == ROOT / "workflow" / "schemas" / "scale.schema.json"


@pytest.mark.parametrize(
    ("changes", "at"),
    [
        ({"sedes": [0]}, []),
        ({"seeds": ["x"]}, ["seeds", 0]),
        ({"methods": {"gdpo": {"learning_rte": 1e-6}}}, ["methods", "gdpo"]),
        ({"methods": {"gdpo": {"trainer": "ppo"}}}, ["methods", "gdpo", "trainer"]),
        ({"limited": {"sedes": [0]}}, ["limited"]),
    ],
)
def test_the_schema_refuses_what_loading_refuses(changes, at):
    assert not list(VALIDATOR.iter_errors({"scale": "own", "extends": "tiny", "tables": {"table2": None}}))
    errors = list(VALIDATOR.iter_errors({"scale": "own", "extends": "tiny"} | changes))
    assert [list(error.absolute_path) for error in errors] == [at]
