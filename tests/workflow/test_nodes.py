"""What a training job of several nodes asks Slurm for, in the words of the executor's own code. Dry runs."""

from __future__ import annotations

import re

import pytest
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string

from gdpo.ops.plan.jobs import find_jobs
from tests.workflow.test_own_scales import planned, scale

PARAMS = {"run_uuid": "r", "slurm_logfile": "l", "comment_str": "c", "account": "", "partition": "", "workdir": ""}
NEEDS = {"train": {"gpus": 2, "memory_gb": 3, "hours": 1}}


class Resources(dict):
    __getattr__ = dict.get


class Submitted:
    threads = 1

    def __init__(self, plan: str):
        line = re.search(r"^rule train:$.*?resources: (.*?)$", plan, re.MULTILINE | re.DOTALL)[1]
        pairs = (entry.partition("=") for entry in line.split(", "))
        self.resources = Resources({k: int(v) if v.isdigit() else v for k, _, v in pairs})


def train(tmp_path, launch) -> tuple[Submitted, list[str]]:
    """A training job of a scale with such a `launch`, and the options that sbatch is called with."""
    path = scale(tmp_path, needs=NEEDS, launch=launch, threads=3)
    job = Submitted(planned(tmp_path, path, "results/mine/runs/tiny-s/union/gdpo/0"))
    return job, (get_submit_command(job, PARAMS) + set_gres_string(job)).split()


def test_a_job_on_one_node(tmp_path):
    job, command = train(tmp_path, {"processes": 2})
    assert {"--gpus=2", "--cpus-per-task=6", "3072"} <= set(command)
    assert "mpi" not in job.resources and not any(word.startswith(("--nodes", "--ntasks")) for word in command)


def test_a_job_on_two_nodes(tmp_path):
    """Two GPUs and six CPUs on each; `mpi`, or the job step's own srun would hold the command on the first node."""
    job, command = train(tmp_path, {"processes": 2, "nodes": 2})
    assert {"--nodes=2", "--ntasks=2", "--gres=gpu:2", "--cpus-per-task=6", "--mem", "3072"} <= set(command)
    assert not any(word.startswith(("--gpus", "--ntasks-per")) for word in command)
    assert job.resources["mpi"]


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_plan_counts_the_gpus_of_all_nodes(tmp_path, monkeypatch, nodes):
    path = scale(tmp_path, needs=NEEDS, launch={"processes": 2, "nodes": nodes})
    monkeypatch.chdir(tmp_path)
    jobs = find_jobs(str(path), None, ["results/mine/runs/tiny-s/union/gdpo/0"])
    assert [job.gpus for job in jobs if job.step == "train"] == [2 * nodes]
