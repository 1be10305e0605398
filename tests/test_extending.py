"""docs/extending.md: each file on the page is loaded, each command is run, each output is what the commands print."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from gdpo.config.loader import load_scale
from tests.workflow.test_micro import planned, snakemake
from tests.workflow.test_micro import project as project

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text()
REMEDY, DURING = "A remedy in ten minutes", "A remedy during training"
STEPS = 6  # commands of the remedy that make its row; then it is changed and removed


class Block(NamedTuple):
    section: str
    language: str
    title: str
    text: str


def blocks() -> list[Block]:
    """The fenced blocks of the page in order, each with the second-level heading that it is under."""
    found, section = [], ""
    for part in re.finditer(
        r'^## ([^\n]+)$|^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL
    ):
        section = part[1] or section
        if part[2]:
            found.append(Block(section, part[2], part[3] or "", part[4]))
    return found


BLOCKS = blocks()
FILES = {block.title: block.text for block in BLOCKS if block.language in ("yaml", "python", "json")}
SCALES = [name for name in FILES if name.endswith(".yaml")]
PRINTED = {block.title: block.text for block in BLOCKS if block.language == "text"}


def commands(section: str) -> list[str]:
    return [block.text for block in BLOCKS if (block.section, block.language, block.title) == (section, "sh", "")]


@pytest.fixture(scope="module")
def page(project):
    """A copy of the project with every file of the page in it."""
    for name, text in FILES.items():
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(text)
    return project


def run(directory: Path, command: str) -> str:
    """What a command of the page prints, run as a reader does: in bash, in the project's directory."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = {**os.environ, "PATH": path, "PYTHONPATH": str(directory)}
    done = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, env=given, cwd=directory)
    assert done.returncode == 0, command + done.stdout + done.stderr
    return done.stdout + done.stderr


def job_counts(text: str) -> dict[str, int]:
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", text, re.MULTILINE)}


def test_each_block_is_a_file_a_command_or_an_output() -> None:
    assert set(PRINTED) == {"jobs", "shown", "notes", "error"}
    assert {block.title for block in BLOCKS if block.language == "sh"} == {"", "once", "tiny"}
    assert {block.language for block in BLOCKS} == {"yaml", "python", "json", "sh", "text"}
    with_commands = {REMEDY, DURING, "Student", "Source", "Figure"}
    assert {block.section for block in BLOCKS if (block.language, block.title) == ("sh", "")} == with_commands
    assert all(len(line) <= 100 for line in PAGE.splitlines())


def test_each_remedy_has_at_most_thirty_lines() -> None:
    first, second = (
        sum(bool(line.strip()) for line in (FILES[f"gdpo/students/{name}.py"] + FILES[scale]).splitlines())
        for name, scale in (("averaged", "mine.yaml"), ("anchored", "anchored.yaml"))
    )
    assert first <= 30 and second <= 30
    assert f"It takes {first} lines" in PAGE


FACTS = """
import json, sys
from gdpo.config.loader import load_scale
from gdpo.report import figures
found = {}
for name in sys.argv[1:]:
    scale = load_scale(name)
    found[name] = scale.model_dump(mode="json") | {"drawable": figures.names(scale)}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def scales(page):
    """Each scale of the page, and micro, as loaded in the copy, where its trainer is known."""
    done = subprocess.run(
        [sys.executable, "-c", FACTS, "micro", *SCALES], capture_output=True, text=True, cwd=page,
        env={**os.environ, "PYTHONPATH": str(page)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def rows(scale: dict, table: str) -> list[str]:
    return [cell["row"] for cell in scale["tables"][table]["rows"]]


def test_every_scale_of_the_page_loads_and_has_what_the_page_says(scales) -> None:
    micro = scales["micro"]
    assert rows(scales["mine.yaml"], "table2") == [*rows(micro, "table2"), "union, averaged"]
    assert rows(scales["anchored.yaml"], "table2") == [*rows(micro, "table2"), "union, anchored"]
    assert rows(scales["row.yaml"], "tableA7") == [*rows(micro, "tableA7"), "GDPO, hard only"]
    assert scales["student.yaml"]["students"] == ["tiny-s", "tiny-m", "tiny-xs"]
    assert scales["hub.yaml"]["students"][1] == "qwen3-0.6b"
    assert scales["benchmark.yaml"]["benchmarks"].keys() - micro["benchmarks"].keys() == {"pair-sampled"}
    assert scales["source.yaml"]["trainsets"]["quiz-only"]["sources"] == ["quiz"]
    assert set(scales["figure.yaml"]["drawable"]) - set(micro["drawable"]) == {"remedies"}
    assert set(scales["curve.yaml"]["drawable"]) - set(micro["drawable"]) == {"kept"}


def test_variants_have_what_they_extend_and_their_own(scales) -> None:
    variant = scales["variant.yaml"]
    methods = variant["methods"]
    beta = methods["gdpo"]["objective"] | {"beta": 0.5}
    assert methods["gdpo-strict"] == methods["gdpo"] | {"display": "GDPO, beta 0.5", "objective": beta}
    assert methods["gdpo-no-warmup"] == methods["gdpo-strict"] | {"display": "no warmup", "warmup_ratio": 0.0}
    sets = variant["trainsets"]
    assert sets["union-half"] == sets["union"] | {"display": "half of the union", "size": 48}
    assert scales["curve.yaml"]["methods"]["averaged-75"]["options"] == {"kept": 0.75}


def test_error_of_the_page_is_what_is_said(page) -> None:
    wrong = FILES["mine.yaml"].replace("method: averaged}", "method: averagd}")
    assert wrong != FILES["mine.yaml"]
    (page / "mine.yaml").write_text(wrong)
    done = snakemake(page, "-n", "results/table2.csv", "--config", "scale=mine.yaml", project=page)
    (page / "mine.yaml").write_text(FILES["mine.yaml"])
    assert done.returncode != 0
    assert PRINTED["error"].strip() in done.stderr


@pytest.mark.parametrize(
    ("file", "target", "jobs"),
    [
        ("row.yaml", "results/tableA7.csv", {"train": 8, "respond": 2}),
        ("student.yaml", "results/table2.csv", {"model": 4, "train": 15, "evaluate_origin_test": 3}),
        ("benchmark.yaml", "results/table2.csv", {"benchmark": 1, "train": 10, "evaluate": 10}),
    ],
)
def test_dry_run_plans_what_was_added(page, file, target, jobs) -> None:
    counts = planned(page, target, "--config", f"scale={file}", project=page)
    assert {rule: counts[rule] for rule in jobs} == jobs


def test_commands_of_a_source_run_and_its_questions_are_read(page) -> None:
    """The command of the page is a dry run of all sources; then the quiz alone is read from its mirror."""
    write, plan = commands("Source")[0].splitlines()
    run(page, write)
    assert job_counts(run(page, plan))["sources"] == 1
    names = load_scale("smol").sources
    alone = {"extends": "source", "scale": "alone", "sources": {name: {"pool": False} for name in names}}
    (page / "alone.yaml").write_text(json.dumps(alone))
    run(page, "gdpo metakl sources --scale alone.yaml --mirror quiz")
    pool = [json.loads(line) for line in (page / "results/alone/pool.jsonl").open()]
    assert [(question["source"], question["answer"]) for question in pool] == [("quiz", "B"), ("quiz", "A")]


@pytest.mark.long
def test_plan_of_a_student_from_the_hub_trains_table_2_for_two_students(page) -> None:
    """Three rows by SFT and two by GDPO, for each of the two; one seed."""
    [command] = commands("Student")
    plan = run(page, command)
    trained = dict(re.findall(r"^\| train (\S+) \|[^|]*\| (\d+) \|", plan, re.MULTILINE))
    assert trained == {"sft": "6", "gdpo": "2", "gdpo-literal": "2"}, plan


def pattern(line: str) -> str:
    """A line of the page as a pattern, with any number for a number, since another machine has other ones."""
    words = re.sub(r"[\d.]+±[\d.]+[↑↓]?\*?", "<number>", re.sub(r" +", " ", line.strip()))
    return re.escape(words).replace(re.escape("<number>"), r"[\d.]+±[\d.]+[↑↓]?\*?")


@pytest.mark.long
@pytest.mark.unmeasured
def test_remedy_gets_its_row_and_figures_and_is_removed_again(page) -> None:
    before, *make, show, change, remove = commands(REMEDY)
    assert len([before, *make, show]) == STEPS - 2
    run(page, before)
    table = {path.name: path.read_bytes() for path in page.glob("results/table2*.csv")}
    dry, real = make
    assert job_counts(run(page, dry)) == job_counts(PRINTED["jobs"])
    run(page, real)
    shown = re.sub(r" +", " ", run(page, show))
    for line in PRINTED["shown"].splitlines():
        assert re.search(pattern(line), shown), line
    for line in PRINTED["notes"].splitlines():
        assert re.search(re.escape(line.strip()).replace("8", r"\d+"), shown), line
    [log] = re.findall(r"results/micro/logs/train/\S+\.log", PAGE)
    assert (page / log).exists()
    [figure] = commands("Figure")
    run(page, figure)
    run(page, "snakemake results/micro/figures/kept.png --cores all --config scale=curve.yaml")
    for name, count in (("remedies", 2 * 5), ("kept", 4 * 3)):
        drawn = (page / f"results/micro/figures/{name}.csv").read_text().splitlines()
        assert len(drawn) == 1 + count
    planned_again = run(page, change.replace("--logger gdpo", "-n --quiet rules"))
    assert job_counts(planned_again) == job_counts(PRINTED["jobs"])
    run(page, change)
    run(page, remove)
    assert {path.name: path.read_bytes() for path in page.glob("results/table2*.csv")} == table
    assert not [path for name in ("averaged", "averaged.log") for path in page.glob(f"results/micro/**/{name}")]
    assert not (page / "gdpo/students/averaged.py").exists()


@pytest.mark.long
@pytest.mark.unmeasured
def test_remedy_during_training_is_sft_at_penalty_0_and_stays_nearer_to_the_start_otherwise(page) -> None:
    [make] = commands(DURING)
    run(page, make)
    loose = {"extends": "anchored", "display": "SFT, loose", "options": {"penalty": 0}}
    row = {"row": "union, penalty 0", "trainset": "union", "method": "loose"}
    zero = {"extends": "anchored", "methods": {"loose": loose}, "tables": {"table2": {"add_rows": [row]}}}
    (page / "zero.yaml").write_text(json.dumps(zero))
    run(page, make.replace("anchored.yaml", "zero.yaml"))
    with (page / "results/table2.csv").open() as file:
        scores = {(line["model"], line.pop("row")): line for line in csv.DictReader(file)}
    for student, title in (("tiny-s", "Tiny-S"), ("tiny-m", "Tiny-M")):
        assert scores[title, "union, penalty 0"] == scores[title, "union"]
        start = load_file(page / "results/micro/models" / student / "model.safetensors")
        runs = page / "results/micro/runs" / student / "union"
        weights = {name: load_file(runs / name / "0/model.safetensors") for name in ("sft", "loose", "anchored")}
        moved = {name: float(sum((w[key] - start[key]).square().sum() for key in start)) for name, w in weights.items()}
        assert all(torch.equal(weights["loose"][key], weights["sft"][key]) for key in start)
        assert moved["anchored"] < moved["sft"] / 2
