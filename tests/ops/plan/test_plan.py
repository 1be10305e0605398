"""Plans of the real workflow: their jobs are Snakemake's, and of a finished run all are done."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gdpo.config.loader import load_scale
from gdpo.ops.plan import report
from gdpo.ops.plan.calibrate import line
from gdpo.ops.plan.jobs import SNAKEFILE, Job, Time, find_jobs, parse, target_paths
from gdpo.ops.plan.plan import Planner, make_plan
from gdpo.ops.plan.rates import Rate
from gdpo.ops.plan.steps import calibrate, plan
from tests.refusal import refused


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def snakemake(*arguments: str) -> str:
    command = [sys.executable, "-m", "snakemake", "-s", SNAKEFILE, *arguments, "--config", "scale=micro"]
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": path, "PYTHONPATH": ":".join(sys.path)})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_jobs_of_a_dry_run() -> None:
    text = """
rule train:
    input: a
    output: runs/0, runs/1
    resources: tmpdir=/tmp, gpu=2, mem=1.0 GB
Shell command: gdpo train --name a

rule train:
    output: runs/2
    resources: tmpdir=/tmp, nodes=3, gres=gpu:2
Shell command: gdpo train --name b

localrule all:
    input: b
    resources: tmpdir=/tmp
Shell command: None

rule claims:
    output: claims.csv
    resources: tmpdir=/tmp
Shell command: gdpo claims
"""
    assert parse(text) == [
        Job("gdpo train --name a", outputs=("runs/0", "runs/1"), gpus=2),
        Job("gdpo train --name b", outputs=("runs/2",), gpus=6),
        Job("gdpo claims", outputs=("claims.csv",)),
    ]


def test_job_has_the_step_and_runs_of_its_command() -> None:
    job = Job("gdpo train --scale micro --student s --trainset t --method a b --seeds 0 1 --log x", done=True)
    assert job.step == "train"
    assert [str(run) for run in job.runs] == ["s/t/a/0", "s/t/a/1", "s/t/b/0", "s/t/b/1"]
    assert Job("gdpo metakl answer --model m", done=False).step == "answer"


def test_job_time_is_summed_from_provenance(tmp_path) -> None:
    """1.5 and 2.5 seconds of two results, one a directory; a third output has no provenance of its own."""
    Path("runs").mkdir()
    Path("runs/provenance.json").write_text('{"wall_seconds": 1.5, "cpu_seconds": 1.0}')
    Path("score.json.provenance.json").write_text('{"wall_seconds": 2.5, "cpu_seconds": 2.0}')
    job = Job("gdpo train", done=True, outputs=("runs", "score.json", "log"))
    assert job.measured() == Time(4.0, 3.0)
    assert Job("gdpo train", done=True, outputs=("log",)).measured() is None
    assert Job("gdpo train", done=False, outputs=("runs",)).measured() is None


def test_jobs_are_those_of_snakemake() -> None:
    """By rule, of all targets of micro: the dry run's own count, but for `all`, which runs nothing."""
    counted = re.findall(r"^(\w+) +(\d+)$", snakemake("-n", "all").partition("Job stats:")[2], re.MULTILINE)
    total = Counter({rule: int(count) for rule, count in counted})["total"] - 1
    jobs = find_jobs("micro", None, ["all"])
    assert len(jobs) == total
    assert not any(job.done for job in jobs)
    plan = make_plan(load_scale("micro"), "micro", ["all"], workers=2)
    assert sum(len(predictions) for predictions in plan.lines.values()) == total
    text = report.markdown(plan)
    assert text.splitlines()[2].startswith("- total time: unknown for ")
    assert "`gdpo calibrate` with the same --scale" in text


def test_table_target_is_its_file() -> None:
    paths = target_paths(["table2", "results/claims.csv", "all"], load_scale("micro"))
    assert paths == ["results/table2.csv", "results/claims.csv", "all"]
    with refused(key="snakemake -n results/tabel2.csv"):
        find_jobs("micro", None, ["results/tabel2.csv"])


def test_plan_of_paper_without_results() -> None:
    plan = make_plan(load_scale("paper"), "paper", ["all"])
    trained = {run.student for p in plan.predictions if p.job.step == "train" for run in p.job.runs}
    assert "qwen3-8b" in trained and not any("32b" in student for student in trained)
    assert any("train qwen3-8b by grpo" in warning for warning in plan.warnings)
    assert not any(f"train qwen3-8b by {method}" in w for w in plan.warnings for method in ("sft", "dpo", "gdpo"))
    text = report.markdown(plan)
    assert "GPU-hours" in text and "measured on no GPU" in text
    steps = {row["step"]: row for row in report.rows(plan)}
    assert steps["train gdpo"]["from"] == "assumed"
    assert float(steps["respond"]["money"]) < load_scale("paper").model("deepseek-r1").endpoint.budget.money
    page = (SNAKEFILE.parent / "docs" / "scale-paper.md").read_text(encoding="utf-8")
    assert report.filled(page, "paper", text) == page, "gdpo plan --scale paper --docs writes the page anew"


def test_plan_warns_of_exceeded_budget() -> None:
    """1,000 prompt and 200 completion tokens for each of 37,000 questions: 37 * 2.5 + 7.4 * 10 is 166.5."""
    scale = load_scale("paper")
    little = scale.annotate.endpoint.budget.model_copy(update={"money": 166.0})
    endpoint = scale.annotate.endpoint.model_copy(update={"budget": little})
    scale = scale.model_copy(update={"annotate": scale.annotate.model_copy(update={"endpoint": endpoint})})
    plan = Planner(scale, [Job("gdpo metakl annotate --scale paper")]).plan(["all"], 1)
    assert [row["money"] for row in report.rows(plan)] == ["166.50"]
    assert plan.warnings == ["annotate: 166.50 in money is over the budget of 166.00"]


def test_annotator_named_like_a_model_has_its_own_price() -> None:
    """Its own endpoint has the price; the model of that name has weights here, and no endpoint."""
    scale = load_scale("paper")
    endpoint = scale.annotate.endpoint.model_copy(update={"model": "qwen3-8b"})
    assert scale.model(endpoint.model).endpoint is None
    scale = scale.model_copy(update={"annotate": scale.annotate.model_copy(update={"endpoint": endpoint})})
    plan = Planner(scale, [Job("gdpo metakl annotate --scale paper")]).plan(["all"], 1)
    assert [row["money"] for row in report.rows(plan)] == ["166.50"]


def test_gpus_divide_a_time_calibrated_on_one() -> None:
    """12 GPU-hours of training as calibrated in one process, and half an hour to begin: 6.5 hours on two, 13 of GPUs.

    On two nodes of two: 3.5 hours, 14 of GPUs.
    """
    scale = load_scale("paper")
    command = "gdpo train --scale paper --student qwen3-8b --trainset metakl --method sft --seeds 0"
    for gpus, spent in ((2, 13.0), (4, 14.0)):
        job = Job(command, gpus=gpus)
        planner = Planner(scale, [job])
        (work,) = planner.work[job.command]
        planner.rates.measured[planner.rates.key(work)] = Rate(12 * 3600 / work.amount, begin=1800)
        (row,) = report.rows(planner.plan(["all"], 2))
        assert (float(row["gpu_hours"]), row["from"]) == (spent, "measured")


def test_job_that_needs_a_gpu_is_not_light() -> None:
    """A judge by rules computes on no GPU; a guard does, and how long it takes is not known."""
    rules, guard = Job("gdpo judge --scale paper"), Job("gdpo judge --scale paper --log x", gpus=1)
    predictions = Planner(load_scale("paper"), [rules, guard]).plan(["all"], 1).predictions
    assert [prediction.sources for prediction in predictions] == [{"light"}, {"unknown"}]


def test_kept_costs_of_the_scale_where_nothing_was_measured() -> None:
    """Two runs of a sweep at 20.5 / 5 seconds each, from a cost.csv of the scale; a shipped model is copied."""
    scale = load_scale("micro")
    scale.root.mkdir(parents=True)
    (scale.root / "cost.csv").write_text('step,results,wall_seconds\n"train sft, sweep",5,20.5\nmodel,1,300\n')
    command = "gdpo train --scale micro --student tiny-s --trainset union --method sft~0.1 --seeds 0 1"
    jobs = [Job(command), Job("gdpo model --name tiny-s")]
    trained, copied = Planner(scale, jobs).plan(["all"], 1).predictions
    assert (trained.time.seconds, trained.sources) == (pytest.approx(8.2), {"kept"})
    assert (copied.time.seconds, copied.sources) == (0, {"light"})


def test_a_method_without_kept_costs_takes_those_of_its_trainers_others() -> None:
    """GDPO's readings have one trainer: (2 + 4) / 2 seconds a run of a sweep; DPO has none that is known."""
    scale = load_scale("micro")
    scale.root.mkdir(parents=True)
    kept = '"train gdpo, sweep",5,10\n"train gdpo-unweighted, sweep",1,4\ntrain gdpo,1,7\n'
    (scale.root / "cost.csv").write_text(f"step,results,wall_seconds\n{kept}")
    command = "gdpo train --scale micro --student tiny-s --trainset union --method {}~0.1 --seeds 0 1"
    jobs = [Job(command.format(method)) for method in ("gdpo-literal", "dpo")]
    reading, dpo = Planner(scale, jobs).plan(["all"], 1).predictions
    assert (reading.time.seconds, reading.sources) == (pytest.approx(6), {"alike"})
    assert "alike" not in dpo.sources


def test_kept_results_are_not_those_of_a_limited_scale() -> None:
    """A limited scale is not what the kept results are of."""
    job = Job("gdpo train --scale tiny --student tiny-s --trainset union --method sft --seeds 0")
    assert Planner(load_scale("tiny"), [job]).predict(job).sources == {"kept"}
    assert Planner(load_scale("tiny", 4), [job]).predict(job).sources == {"unknown"}


def test_finished_job_gives_the_rate_of_others() -> None:
    """One seed took 3 seconds; two further ones take 6."""
    Path("0.provenance.json").write_text('{"wall_seconds": 3.0, "cpu_seconds": 1.0}')
    command = "gdpo train --scale micro --student tiny-s --trainset hard-only --method sft --seeds"
    jobs = [Job(f"{command} 0", done=True, outputs=("0",)), Job(f"{command} 1 2")]
    plan = Planner(load_scale("micro"), jobs).plan(["all"], 1)
    assert plan.predictions[1].time == Time(pytest.approx(6.0), pytest.approx(2.0))
    assert plan.predictions[1].sources == {"finished"}
    assert "| train sft | 1 | 3.0 | 3.0 | 1.00 | 1.0 | 1.0 | 1.00 |" in report.markdown(plan)


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"workers": 0}, {"key": "--workers", "found": 0, "expected": "a whole number above 0"}),
        ({"docs": True}, {"path": "docs/scale-paper.md", "expected": "--docs in a checkout's root"}),
    ],
)
def test_options_are_refused_before_planning(options, fields) -> None:
    given = {"targets": ["all"], "workers": None, "out": None, "docs": False} | options
    with refused(**fields):
        plan(load_scale("micro"), "micro", **given)


def test_rate_through_two_measurements() -> None:
    """10 units in 3 seconds, 40 in 9: 0.2 a unit and 1 to begin; a smaller piece that took longer tells no rate."""
    assert line((10, 3.0), (40, 9.0)) == (pytest.approx(0.2), pytest.approx(1.0))
    assert line((10, 9.0), (40, 8.0)) == (pytest.approx(0.2), pytest.approx(7.0))


def test_page_is_filled_between_its_marks() -> None:
    page = "a\n<!-- plan:paper -->\nold\n<!-- /plan -->\nb\n"
    assert report.filled(page, "paper", "# P\n") == "a\n<!-- plan:paper -->\n### P\n<!-- /plan -->\nb\n"
    with refused(path="docs/scale-paper.md", expected="the marks <!-- plan:tiny -->"):
        report.filled(page, "tiny", "")


@pytest.mark.long
def test_plan_of_a_finished_run() -> None:
    snakemake("--cores", "2", "results/table2.csv")
    plan = make_plan(load_scale("micro"), "micro", ["table2"], workers=2)
    assert plan.done and plan.wall() > 0 and plan.wall(to_do=True) == 0
    trained = [Path(path).parent for path in Path("results/micro/runs").rglob("train.json")]
    assert len({run for p in plan.predictions if p.job.step == "train" for run in p.job.runs}) == len(trained) == 10
    computed = [prediction for prediction in plan.predictions if prediction.work]
    assert all(prediction.measured for prediction in computed)
    assert f"| all | {len(computed)} |" in report.finished(plan)


@pytest.mark.long
def test_calibration_measures_every_time_of_micro() -> None:
    scale = load_scale("micro")
    calibrate(scale)
    plan = make_plan(scale, "micro", ["all"], workers=2)
    assert {source for prediction in plan.predictions for source in prediction.sources} == {"measured", "light"}
    assert all(prediction.time.seconds > 0 for prediction in plan.predictions if prediction.work)
    assert Path("results/micro/throughput.json.provenance.json").exists()
