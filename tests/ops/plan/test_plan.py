"""Plans of the real workflow: their jobs are Snakemake's, and of a finished run all are done."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gdpo.config.loader import load_scale
from gdpo.core.errors import UserError
from gdpo.ops.plan import report
from gdpo.ops.plan.calibrate import line
from gdpo.ops.plan.jobs import METADATA, SNAKEFILE, Job, called, commands, jobs, paths, times
from gdpo.ops.plan.plan import Planner, make_plan
from gdpo.ops.plan.rates import Rate
from gdpo.ops.plan.steps import calibrate, plan


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def snakemake(*arguments: str) -> str:
    command = [sys.executable, "-m", "snakemake", "-s", SNAKEFILE, *arguments, "--config", "scale=micro"]
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": path, "PYTHONPATH": ":".join(sys.path)})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_commands_of_a_dry_run() -> None:
    text = "rule a:\nShell command: gdpo model  --name a --log x\n\nShell command: None\nShell command: gdpo claims\n"
    assert commands(text) == ["gdpo model --name a --log x", "gdpo claims"]


def test_a_job_is_what_its_command_says() -> None:
    job = Job("gdpo train --scale micro --student s --trainset t --method a b --seeds 0 1 --log x", done=True)
    assert job.step == "train"
    assert [str(run) for run in job.runs] == ["s/t/a/0", "s/t/a/1", "s/t/b/0", "s/t/b/1"]
    assert Job("gdpo metakl answer --model m", done=False).step == "answer"
    started = "accelerate launch --config_file f.yaml -m gdpo.cli train --student s"
    assert called(started) == ["train", "--student", "s"]
    with pytest.raises(ValueError, match="expected a call of gdpo, found 'touch x'"):
        called("touch x")


def test_times_are_read_past_what_is_not_ours(tmp_path) -> None:
    kept = tmp_path / METADATA
    kept.mkdir(parents=True)
    (kept / "YQ==").write_text('{"shellcmd": "gdpo  claims", "starttime": 5.0, "endtime": 7.5}')
    (kept / "Yg==").write_text('{"shellcmd": null}')
    (kept / "not base64!").write_text("{")
    assert times() == {"gdpo claims": (5.0, 7.5)}


def test_jobs_are_snakemakes_own() -> None:
    """By rule, of all targets of micro: the dry run's own count, but for `all`, which runs nothing."""
    counted = re.findall(r"^(\w+) +(\d+)$", snakemake("-n", "all").partition("Job stats:")[2], re.MULTILINE)
    total = Counter({rule: int(count) for rule, count in counted})["total"] - 1
    found = jobs("micro", None, ["all"])
    assert len(found) == total
    assert not any(job.done for job in found)
    made = make_plan(load_scale("micro"), "micro", ["all"], workers=2)
    assert sum(line.jobs for line in made.lines) == total
    assert sum(len(seeds) for seeds, _ in made.trainings.values()) == sum(
        len(job.runs) for job in found if job.step == "train"
    )
    assert "some times are not known" in report.markdown(made)


def test_a_table_is_named_by_its_name() -> None:
    scale = load_scale("micro")
    assert paths(["table2", "results/claims.csv", "all"], scale) == ["results/table2.csv", "results/claims.csv", "all"]
    with pytest.raises(UserError, match=r"snakemake -n results/tabel2\.csv: "):
        jobs("micro", None, ["results/tabel2.csv"])


def test_the_plan_of_paper_before_anything_is_spent() -> None:
    made = make_plan(load_scale("paper"), "paper", ["all"])
    assert not any(student.endswith("32b") or "32b" in student for student, _, _ in made.trainings)
    assert any("train qwen3-8b by grpo" in warning for warning in made.warnings)
    assert not any(f"train qwen3-8b by {method}" in w for w in made.warnings for method in ("sft", "dpo", "gdpo"))
    text = report.markdown(made)
    assert "GPU-hours" in text and "measured on no GPU" in text
    sizes = {row["step"]: row for row in report.rows(made)}
    assert sizes["train gdpo"]["from"] == "assumed"
    assert float(sizes["respond"]["money"]) < load_scale("paper").model("deepseek-r1").endpoint.budget.money
    page = (SNAKEFILE.parent / "docs" / "paper_scale.md").read_text(encoding="utf-8")
    assert report.filled(page, "paper", text) == page, "gdpo plan --scale paper --docs writes the page anew"


def test_a_budget_that_is_too_small_is_said() -> None:
    """1,000 prompt and 200 completion tokens for each of 37,000 questions: 37 * 2.5 + 7.4 * 10 is 166.5."""
    scale = load_scale("paper")
    little = scale.annotate.endpoint.budget.model_copy(update={"money": 166.0})
    endpoint = scale.annotate.endpoint.model_copy(update={"budget": little})
    scale = scale.model_copy(update={"annotate": scale.annotate.model_copy(update={"endpoint": endpoint})})
    made = Planner(scale, [Job("gdpo metakl annotate --scale paper", done=False)], {}).plan(["all"], 1)
    assert [row["money"] for row in report.rows(made)] == ["166.50"]
    assert made.warnings == ["annotate: 166.50 in money is over the budget of 166.00"]


def test_an_annotator_called_like_a_model_of_the_scale_is_priced_as_the_annotator() -> None:
    """Its own endpoint has the price; the model of that name has weights here, and no endpoint."""
    scale = load_scale("paper")
    endpoint = scale.annotate.endpoint.model_copy(update={"model": "qwen3-8b"})
    assert scale.model(endpoint.model).endpoint is None
    scale = scale.model_copy(update={"annotate": scale.annotate.model_copy(update={"endpoint": endpoint})})
    made = Planner(scale, [Job("gdpo metakl annotate --scale paper", done=False)], {}).plan(["all"], 1)
    assert [row["money"] for row in report.rows(made)] == ["166.50"]


def test_gpus_share_what_one_was_measured_to_take() -> None:
    """12 GPU-hours of training as calibrated in one process, and half an hour to begin: 6.5 hours on two, 13 of GPUs.

    On two nodes of two: 3.5 hours, 14 of GPUs.
    """
    scale = load_scale("paper")
    job = Job("gdpo train --scale paper --student qwen3-8b --trainset metakl --method sft --seeds 0", done=False)
    for nodes, spent in ((1, 13.0), (2, 14.0)):
        launched = scale.model_copy(update={"launch": scale.launch.model_copy(update={"nodes": nodes})})
        planner = Planner(launched, [job], {})
        (work,) = planner.work[job.command]
        planner.rates.measured[planner.rates.key(work)] = Rate(12 * 3600 / work.amount, begin=1800)
        (row,) = report.rows(planner.plan(["all"], 2))
        assert (float(row["gpu_hours"]), row["from"]) == (spent, "measured")


def test_a_guard_that_judges_is_not_taken_for_light() -> None:
    job = Job("gdpo judge --scale paper", done=False)
    scale = load_scale("paper")
    (rules,) = Planner(scale, [job], {}).plan(["all"], 1).lines
    guard = scale.model_copy(update={"judge": scale.judge.model_copy(update={"backend": "classifier"})})
    (judged,) = Planner(guard, [job], {}).plan(["all"], 1).lines
    assert (rules.origins, judged.origins) == ({"light"}, {"unknown"})


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"workers": 0}, "--workers: expected a whole number above 0, found 0"),
        ({"docs": True}, "docs/paper_scale.md: no such file; expected --docs in a checkout's root"),
    ],
)
def test_what_cannot_be_planned_is_said_at_once(asked, sentence) -> None:
    given = {"targets": ["all"], "workers": None, "out": None, "docs": False} | asked
    with pytest.raises(UserError, match=f"^{sentence}$"):
        plan(load_scale("micro"), "micro", **given)


def test_a_line_through_two_measurements() -> None:
    """10 units in 3 seconds, 40 in 9: 0.2 a unit and 1 to begin; a smaller piece that took longer tells no rate."""
    assert line((10, 3.0), (40, 9.0)) == (pytest.approx(0.2), pytest.approx(1.0))
    assert line((10, 9.0), (40, 8.0)) == (pytest.approx(0.2), pytest.approx(7.0))


def test_a_page_without_marks_is_refused() -> None:
    page = "a\n<!-- plan:paper -->\nold\n<!-- /plan -->\nb\n"
    assert report.filled(page, "paper", "# P\n") == "a\n<!-- plan:paper -->\n### P\n<!-- /plan -->\nb\n"
    with pytest.raises(UserError, match="expected the marks <!-- plan:tiny -->"):
        report.filled(page, "tiny", "")


@pytest.mark.long
def test_a_finished_micro_run_is_all_done() -> None:
    snakemake("--cores", "2", "results/table2.csv")
    made = make_plan(load_scale("micro"), "micro", ["table2"], workers=2)
    assert all(line.done == line.jobs for line in made.lines)
    trained = [Path(path).parent for path in Path("results/micro/runs").rglob("train.json")]
    assert sum(len(done) for _, done in made.trainings.values()) == len(trained) == 10
    assert made.elapsed > 0 and made.wall(to_do=True) == 0
    assert "| all | 47 |" in report.markdown(made)


@pytest.mark.long
def test_a_calibrated_machine_leaves_no_time_of_micro_unknown() -> None:
    scale = load_scale("micro")
    calibrate(scale)
    made = make_plan(scale, "micro", ["all"], workers=2)
    assert {origin for line in made.lines for origin in line.origins} == {"measured", "light"}
    assert made.seconds > 0 and all(line.seconds > 0 for line in made.lines)
    assert Path("results/micro/throughput.json.provenance.json").exists()
