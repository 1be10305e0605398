"""The Slurm profile, what is done about orphans, and, where a Slurm can be brought up, all of it at work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.refusal import refused
from tools.rigs import slurm_cluster, slurm_test
from workflow.scripts import orphans

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "workflow" / "profiles" / "slurm"
GIVEN = yaml.safe_load((PROFILE / "config.yaml").read_text())
RUN, OTHER = "gdpo_c4ef970b-39f5-4bf8-9693-5ce38d1fdfca", "gdpo_e4fd6cd2-1a49-46e5-bb61-c972adcb2245"
HEADER = """\

SNAKEMAKE
=========
  Date: 2026-11-22 23:34:55
  Host: {host}
  User: somebody

Building DAG of jobs...
SLURM run ID: {run}
Using shell: /usr/bin/bash
"""
# as squeue printed it, with a job of the user's that is none of Snakemake's
QUEUE = f"""\
46|RUNNING|{RUN}|rule_answer_wildcards_tiny-s
47|PENDING|{RUN}|rule_merge
48|RUNNING|{OTHER}|rule_select_proficiency_select
49|RUNNING|interactive|(null)
"""
# as scontrol printed it, without the parts that nothing reads
SHOWN = (
    "JobId=54 JobName=gdpo_e4fd6cd2-1a49-46e5-bb61-c972adcb2245 UserId=root(0) JobState=COMPLETED Reason=None "
    "RunTime=00:00:23 TimeLimit=00:12:00 TimeMin=N/A StartTime=2026-11-22T23:50:42 EndTime=2026-11-22T23:51:05 "
    "Partition=gpu NumNodes=1 NumCPUs=2 NumTasks=1 CPUs/Task=2 TRES=cpu=2,mem=3G,node=1,billing=2 "
    "MinCPUsNode=2 MinMemoryNode=3G MinTmpDiskNode=0 Comment=rule_train_wildcards_tiny-s_hard-only_sft "
    "TresPerJob=gres:gpu:1"
)


def planned(directory: Path, *arguments: str) -> str:
    command = ["snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(directory), "-n", *arguments]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=given)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def directory(tmp_path):
    """Where two submissions died, the first of which was on another machine."""
    below = tmp_path / ".snakemake" / "log"
    below.mkdir(parents=True)
    (below / "1.snakemake.log").write_text(HEADER.format(host="elsewhere", run=RUN))
    (below / "2.snakemake.log").write_text(HEADER.format(host=os.uname().nodename, run=OTHER))
    (below / "3.snakemake.log").write_text("Building DAG of jobs...\nNothing to be done.\n")
    return tmp_path


@pytest.fixture
def queue(monkeypatch, tmp_path):
    """An squeue that prints QUEUE."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "squeue").write_text(f"#!/bin/sh\ncat <<'END'\n{QUEUE}END\n")
    (tmp_path / "bin" / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize("scale", ["micro", "smol", "paper"])
def test_every_scale_dry_runs_in_groups(tmp_path, scale):
    """Snakemake checks groups in a dry run too: one that had to wait for itself would be an error."""
    told = planned(tmp_path, "all", "figures", "--workflow-profile", str(PROFILE), "--config", f"scale={scale}")
    assert re.search(r"^rule train:", told, re.MULTILINE)


def test_a_profile_beside_another_directory_is_found(tmp_path):
    """Its relative path is one from where Snakemake is called, not from where it works."""
    given = ["--profile", os.path.relpath(PROFILE), "--executor", "dryrun", "results/table2.csv"]
    assert "table_scores" in planned(tmp_path, *given, "--config", "scale=micro")


def test_every_grouped_rule_is_one_of_the_workflow_s(tmp_path):
    """A misspelt rule would quietly be a job of its own; `import_groups` is there where a training set is imported."""
    rules = set(planned(tmp_path, "--list-rules", "--config", "scale=paper").split())
    grouped = {entry.partition("=")[0] for entry in GIVEN["groups"]}
    assert grouped - rules == {"import_groups"}


def test_group_components_name_groups():
    groups = {entry.partition("=")[2] for entry in GIVEN["groups"]}
    assert {entry.partition("=")[0] for entry in GIVEN["group-components"]} < groups


def test_a_job_with_a_gpu_goes_to_the_partition_that_has_some():
    from snakemake_executor_plugin_slurm.partitions import get_best_partition, read_partition_file

    class Job:
        threads = 1

        def __init__(self, **resources):
            self.resources = resources
            self.name = self.rule = "train"

    class Quiet:
        def __getattr__(self, name):
            return lambda *words, **more: None

    partitions = read_partition_file(PROFILE / "partitions.yaml")
    chosen = [
        get_best_partition(partitions, Job(mem_mb=4096, runtime=60, cpus_per_task=1, **gpu), Quiet())
        for gpu in ({}, {"gpu": 0}, {"gpu": 1}, {"gpu": 8})
    ]
    assert chosen == ["cpu", "cpu", "gpu", "gpu"]


def test_a_submission_is_read_from_its_log(directory):
    found = orphans.submissions(directory)
    assert {run: each.host for run, each in found.items()} == {RUN: "elsewhere", OTHER: os.uname().nodename}


def test_the_queue_is_read_as_squeue_prints_it():
    jobs = orphans.parse_queue(QUEUE)
    assert [(job.id, job.state) for job in jobs[:2]] == [("46", "RUNNING"), ("47", "PENDING")]
    assert jobs[0].what == "rule_answer_wildcards_tiny-s"


def test_only_jobs_of_the_named_runs_count(queue):
    assert [job.id for job in orphans.queued_jobs([RUN])] == ["46", "47"]
    assert orphans.queued_jobs([]) == []


def test_jobs_submitted_elsewhere_are_left_alone_until_told(directory, queue):
    with refused(problem="submitted on elsewhere", hint="--gone elsewhere"):
        orphans.orphaned_jobs(directory)
    assert [job.id for job in orphans.orphaned_jobs(directory, gone=["elsewhere"])] == ["46", "47", "48"]


def test_nothing_is_touched_while_the_submitter_lives(directory, queue):
    """A process that holds the log open, as Snakemake does; the other submission's jobs are in the way all the same."""
    held = directory / ".snakemake" / "log" / "2.snakemake.log"
    with subprocess.Popen(["sleep", "60"], stdin=held.open()) as process:
        try:
            with refused(problem=f"still runs in {directory}, as process {process.pid}"):
                orphans.orphaned_jobs(directory)
            assert [job.id for job in orphans.blocking_jobs(directory)] == ["46", "47"]
        finally:
            process.kill()


def test_an_sbatch_on_its_way_is_seen():
    waits = [sys.executable, "-c", "import time; time.sleep(60)", "sbatch", "--job-name", RUN]
    with subprocess.Popen(waits) as process:
        try:
            while not orphans.is_submitting({RUN}):  # a process has no command line for an instant
                assert process.poll() is None
            assert not orphans.is_submitting({OTHER})
        finally:
            process.kill()


def test_submitting_beside_orphans_is_refused_in_one_sentence(directory, queue):
    script = ROOT / "workflow" / "scripts" / "orphans.py"
    done = subprocess.run([sys.executable, script, "--directory", directory], capture_output=True, text=True)
    assert done.returncode == 1
    assert "found 3 jobs of a submission that died, 46, 47, 48" in done.stderr


def test_a_record_is_read_as_scontrol_prints_it():
    record = slurm_test.parse_record(SHOWN)
    assert (record.id, record.state, record.comment) == ("54", "COMPLETED", "rule_train_wildcards_tiny-s_hard-only_sft")
    assert record.asked == ("gpu", 2, 3072, 12, 1)


@pytest.mark.parametrize(("text", "expected"), [("00:12:00", 12), ("02:00:00", 120), ("1-02:30:00", 1590)])
def test_time_limits(text, expected):
    """A day, two hours and a half: 1440 + 150 minutes."""
    assert slurm_test.minutes(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("500M", 500), ("3G", 3072), ("2.50G", 2560)])
def test_memory(text, expected):
    assert slurm_test.megabytes(text) == expected


def test_max_concurrent_jobs():
    """The third starts as the first ends: never more than two."""
    assert slurm_test.most_at_once([("1", "3"), ("2", "5"), ("3", "4")]) == 2
    assert slurm_test.most_at_once([("1", "3"), ("2", "5"), ("2", "4")]) == 3


def test_missing_slurm_commands_are_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert "munge, slurm-client, slurmctld, slurmd not installed; `make slurm-packages`" in slurm_cluster.missing()


def test_a_machine_with_a_slurm_of_its_own_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(slurm_cluster.shutil, "which", lambda program: program)
    monkeypatch.setattr(slurm_cluster.os, "geteuid", lambda: 0)
    monkeypatch.setattr(slurm_cluster, "ETC", tmp_path)
    (tmp_path / "slurm.conf").touch()
    assert slurm_cluster.missing() == f"{tmp_path}/slurm.conf is there: this machine has a Slurm of its own"


def test_only_a_process_of_that_name_is_ended():
    with subprocess.Popen(["sleep", "60"]) as process:
        slurm_cluster.end(process.pid, "slurmd")
        assert process.poll() is None
        process.kill()


@pytest.mark.long
def test_table_2_through_a_real_slurm():
    """What it checks is in the script; here, that it did."""
    script = ROOT / "tools" / "rigs" / "slurm_test.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    if "slurm-test skipped" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    for said in (
        "the submitter died while 3 jobs were under way: none could be submitted twice, all were waited for",
        "the submitter died once more: ",
        "retried with 5120 MB and 30 minutes after 2560 and 15",
        "at most 2 of them at once",
        "results/table2.csv is byte for byte the one made without Slurm",
    ):
        assert said in done.stdout
