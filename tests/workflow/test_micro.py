"""The real Snakefile on micro: dry runs, and one complete run from nothing to the report."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gdpo.cli import preload

ROOT = Path(__file__).resolve().parents[2]


def snakemake(directory, *arguments, project=ROOT):
    command = ["snakemake", "-s", str(project / "Snakefile"), "--directory", str(directory), *arguments]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = {**os.environ, "PATH": path, "PYTHONPATH": str(project)}
    return subprocess.run(command, capture_output=True, text=True, env=given)


def planned(directory, *arguments, project=ROOT) -> Counter:
    """Rule -> how many jobs of it a dry run plans."""
    done = snakemake(directory, "-n", *arguments, project=project)
    assert done.returncode == 0, done.stdout + done.stderr
    return Counter(re.findall(r"^(?:local)?rule (\w+):$", done.stdout, re.MULTILINE))


@pytest.mark.parametrize("scale", ["micro", "tiny", "smol", "paper"])
def test_every_scale_dry_runs(tmp_path, scale):
    jobs = planned(tmp_path, "all", "--config", f"scale={scale}")
    assert jobs["paper"] == jobs["claims"] == jobs["audit"] == 1
    assert jobs["publish_scores"] == 12
    assert jobs["publish_cases"] == 3


def test_the_training_set_and_its_card_alone_train_nothing(tmp_path):
    jobs = planned(tmp_path, "metakl", "--config", "scale=smol")
    steps = ["sources", "decontaminate", "annotate", "merge", "answer", "proficiency", "select", "card", "quality"]
    assert {step: jobs[step] for step in steps} == dict.fromkeys(steps, 1)
    assert not jobs["respond"] and not jobs["train"]


def test_tables_share_runs(tmp_path):
    """Tables A7 and A8 show the same runs; table A9 adds its own sets and not one run more."""
    tables = [f"results/table{name}.csv" for name in ("A7", "A8", "A9")]
    counts = [planned(tmp_path, *tables[: n + 1])["train"] for n in range(3)]
    assert counts == [2 * 7, 2 * 7, 2 * (7 + 6)]


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


@pytest.mark.parametrize(
    ("file", "before", "after", "found"),
    [("figures.yaml", "  dpi:", "  dpii:", "style.dpi"), ("claims.yaml", "test: difference", "test: dif", "'dif'")],
)
def test_a_mistake_in_a_shared_file_is_one_sentence(project, file, before, after, found):
    undo = changed(project / "workflow/config" / file, before, after)
    done = snakemake(project, "-n", "--config", "scale=micro", project=project)
    undo()
    assert done.returncode != 0
    assert found in done.stderr
    assert "line " not in done.stderr.replace("command line", "")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of what runs, so that a test may change its configuration."""
    copy = tmp_path_factory.mktemp("project")
    for name in ("gdpo", "workflow", "envs", "paper", "docs", "results/reference"):
        ignored = shutil.ignore_patterns("__pycache__", "data", "figures", "tables", "*.pdf")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored if name == "paper" else None)
    shutil.copy(ROOT / "Snakefile", copy)
    return copy


@pytest.fixture(scope="module")
def micro(project):
    """The copy's directory, in which micro was run from nothing to the report, on two cores."""
    done = snakemake(project, "--cores", "2", "all", "figures", "--config", "scale=micro", project=project)
    assert done.returncode == 0, done.stdout + done.stderr
    return project


def test_the_card_counts_what_the_steps_wrote(micro):
    root = micro / "results/micro"
    card = (root / "metakl_card.md").read_text()
    pool, chosen = ((root / name).read_text().splitlines() for name in ("pool.jsonl", "trainsets/metakl.jsonl"))
    assert len((root / "contaminated.jsonl").read_text()) == 0
    assert f"{len(pool)}" in card and f"{len(chosen)}" in card
    assert all(unit in card for unit in json.loads(chosen[0])["units"])


def test_micro_runs_from_pool_to_tables(micro):
    rows = list(csv.DictReader((micro / "results/table2.csv").open()))
    named = ["Origin", "hard-only", "safety-only", "union", "MetaGDPO", "MetaGDPO (literal)"]
    assert [row["row"] for row in rows] == named * 2
    assert all(0 <= float(row["overall_avg"]) <= 100 for row in rows)
    provenance = json.loads((micro / "results/table2.csv.provenance.json").read_text())
    trained = {row["overall_avg"] for row in rows if row["seeds"] != "none"}
    assert len(trained) > 1  # training moved the models, so that equal tables mean equal runs
    assert {"config_hash", "code", "packages", "seeds", "hardware", "wall_seconds"} <= set(provenance)


def test_all_writes_the_explorer(micro):
    """With items of every benchmark; tests/explorer has it in a browser."""
    page, tested = micro / "results/micro/explorer", micro / "results/micro/benchmarks/test"
    assert "<b>micro</b>" in (page / "index.html").read_text()
    assert {path.stem for path in page.glob("data/items/*.js")} == {path.stem for path in tested.glob("*.jsonl")}
    assert sum(path.stat().st_size for path in page.rglob("*") if path.is_file()) <= 20e6


@pytest.mark.skipif(not preload.available(), reason="Linux alone has what a preloaded parent needs")
def test_every_job_of_micro_is_forked(micro):
    """A job that the parent does not fork is named in the parent's log, with the reason."""
    assert "imports for itself" not in (micro / "results/micro/logs/preload.log").read_text()


def test_no_benchmark_item_is_ever_trained_on(micro):
    root = micro / "results/micro"
    tested = {json.loads(line)["question"] for p in root.glob("benchmarks/*/*.jsonl") for line in p.open()}
    pool = {json.loads(line)["question"] for line in (root / "pool.jsonl").open()}
    trained = {json.loads(line)["prompt"][-1]["content"] for p in root.glob("groups/*.jsonl") for line in p.open()}
    assert tested and trained
    assert not tested & pool
    assert trained <= pool


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


def test_every_table_follows_from_stored_outputs_and_an_edited_one_does_not(micro, preloaded):

    def verify(table) -> subprocess.CompletedProcess[str]:
        command = [Path(sys.executable).parent / "gdpo", "verify", table]
        return subprocess.run(command, capture_output=True, text=True, cwd=micro, env=preloaded)

    for path in sorted((micro / "results/micro/tables").glob("table*.md")):
        done = verify(path.relative_to(micro))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "without recorded hashes" not in done.stdout
    samples = micro / "results/micro/samples/tiny-s/metakl/gdpo/0/logic.jsonl"
    undo = changed(samples, '"output": "', '"output": " ')
    done = verify("results/table2.csv")
    undo()
    assert done.returncode == 1
    assert "logic.jsonl: changed since it was scored, by its recorded hash; lines that differ: 1\n" in done.stdout


def test_micro_makes_every_output(micro):
    tables = [f"table{name}" for name in (1, 2, *(f"A{n}" for n in range(1, 16)))]
    assert all((micro / f"results/{name}.csv").exists() for name in tables)
    assert (micro / "paper/report.pdf").read_bytes().startswith(b"%PDF")
    pictures = {path.stem for path in (micro / "paper/figures").glob("*.png")}
    assert pictures == {path.stem for path in (micro / "paper/figures").glob("*.pdf")}
    assert len(pictures) == 9
    assert len(list((micro / "paper/tables").glob("*.tex"))) == 12 * 3 + 2
    verdicts = {row["verdict"] for row in csv.DictReader((micro / "results/claims.csv").open())}
    assert verdicts <= {"supported", "contradicted", "inconclusive", "not testable"}
    assert len(verdicts) > 1


def test_second_call_has_nothing_to_do(micro):
    assert not planned(micro, "all", "figures", "--config", "scale=micro", project=micro)


DELETED = [
    "results/tableA7.csv",
    "results/micro/tables/tableA7.csv",
    "paper/tables/table2.tex",
    "paper/figures/group_size.png",
    "results/micro/figures/tradeoff.pdf",
]


@pytest.mark.parametrize("part", DELETED)
def test_a_deleted_table_or_figure_comes_back_without_training(micro, part):
    (micro / part).rename(micro / "kept")
    jobs = planned(micro, part, "--config", "scale=micro", project=micro)
    (micro / "kept").rename(micro / part)
    assert jobs
    assert not [job for job in jobs if job.startswith(("train", "evaluate", "respond", "model"))]


def changed(path, before, after):
    """Change a configuration file; returns what undoes it."""
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    return lambda: path.write_text(text)


@pytest.mark.parametrize(
    ("before", "after", "figures"), [("caption: >-\n", "caption: >-\n      Anew.\n", 0), ("#0072B2", "#0072B3", 9)]
)
def test_changed_caption_or_colour_retrains_nothing(micro, before, after, figures):
    undo = changed(micro / "workflow/config/figures.yaml", before, after)
    jobs = planned(micro, "all", "figures", "--config", "scale=micro", project=micro)
    undo()
    assert jobs["figure"] == figures
    assert jobs["paper"] == 1
    assert set(jobs) <= {"figure", "publish_figure", "cost", "explore", "numbers", "paper", "all", "figures"}


@pytest.mark.parametrize("name", ["SFT+LoRA", "Tiny-S", "MetaKL", "Chain-2"])
def test_changed_display_name_remakes_only_what_shows_it(micro, name):
    undo = changed(micro / "workflow/config/tiny.yaml", f"display: {name}", f"display: New-{name}")
    jobs = planned(micro, "all", "figures", "--config", "scale=micro", project=micro)
    undo()
    assert jobs["table_scores"] == 12
    made_again = {"claims", "card", "numbers", "cost", "explore", "paper", "published", "all", "figures"}
    assert all(job in made_again or job.startswith(("table", "figure", "publish")) for job in jobs)


def test_changed_bootstrap_draws_remake_only_intervals(micro):
    undo = changed(micro / "workflow/config/micro.yaml", "bootstrap_draws: 10000", "bootstrap_draws: 9999")
    jobs = planned(micro, "all", "figures", "--config", "scale=micro", project=micro)
    undo()
    assert (jobs["claims"], jobs["table_scores"], jobs["figure"]) == (1, 12, 9)
    assert not [job for job in jobs if job.startswith(("train", "evaluate", "respond", "model"))]


def test_changed_learning_rate_retrains_only_its_runs(micro):
    """SFT with an adapter is one cell of one student, and its one seed one job."""
    here = "sft-lora: {epochs: 2, batch_size: 16, micro_batch_size: 16, learning_rate: 3.0e-3}"
    undo = changed(micro / "workflow/config/micro.yaml", here, here.replace("3.0e-3", "2.0e-3"))
    arguments = ["all", "figures", "--config", "scale=micro"]
    jobs = planned(micro, *arguments, project=micro)
    named = snakemake(micro, "-n", *arguments, project=micro).stdout
    undo()
    assert (jobs["train"], jobs["evaluate"], jobs["train_sweep"], jobs["model"]) == (1, 1, 0, 0)
    made = re.findall(r"^rule train:\n.*?^ +output: ([^\n]+)", named, re.MULTILINE | re.DOTALL)
    assert made == ["results/micro/runs/tiny-s/metakl/sft-lora/0"]


def test_snakemake_report_holds_every_table_and_figure(micro):
    done = snakemake(micro, "--report", "report.html", "all", "figures", "--config", "scale=micro", project=micro)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (micro / "report.html").read_text()
    for shown in ("tableA7.csv", "tableA13.md", "group_size.png", "claims.csv", "report.pdf"):
        assert shown in page


def test_the_log_says_what_is_trained_and_what_is_reused(micro):
    (micro / "results/tableA7.csv").unlink()
    done = snakemake(micro, "--cores", "2", "results/tableA7.csv", "--config", "scale=micro", project=micro)
    assert "runs to train: 0; finished ones reused: 7" in done.stderr
    assert (micro / "results/tableA7.csv").exists()


@pytest.mark.long
def test_two_runs_from_cold_give_identical_tables_on_any_number_of_cores(tmp_path):
    targets = ["results/table1.csv", "results/table2.csv"]
    one, two = tmp_path / "1", tmp_path / "2"
    for directory in (one, two):
        done = snakemake(directory, "--cores", directory.name, *targets, "--config", "scale=micro")
        assert done.returncode == 0, done.stdout + done.stderr
    samples = [path.relative_to(one) for path in one.glob("results/micro/samples/**/*.jsonl")]
    beside = [f"results/table{n}_{part}.csv" for n in (1, 2) for part in ("retention", "forgetting")]
    assert len(samples) == 13 * (2 + 2 * 5)
    for target in [*targets, *beside, *samples]:
        assert (one / target).read_bytes() == (two / target).read_bytes(), target
