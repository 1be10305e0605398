# What jobs run in and on: their conda environment, their resources, and what a dead submission left of them.
import atexit
import math
import os
import re
import subprocess
import sys
from pathlib import Path

from gdpo.cli import preload
from gdpo.display import estimate, snakemake_compat
from gdpo.report import unlike_rows
from gdpo.runtime import parent_watchdog
from gdpo.config.resources import Launch

# For `--software-deployment-method conda`; without that, the lines `conda:` do nothing, and a step that needs vLLM's
# environment goes there by itself (gdpo/runtime/vllm_environment.py).
ENVIRONMENTS = {
    # Snakemake takes braces in it for wildcards.
    engine: re.sub("[{}]", r"\g<0>\g<0>", f"{CHECKOUT}/envs/{name}.yaml")
    for engine, name in [("hf", "gdpo"), ("vllm", "vllm")]
}
ENVIRONMENT = ENVIRONMENTS["hf"]
# Where envs/*.post-deploy.sh find the package.
os.environ["GDPO_CHECKOUT"] = str(CHECKOUT)
parent_watchdog.announce()  # so that jobs end when this Snakemake dies


def sampling(model):
    """The environment of a rule that samples the model which `model` names, given the wildcards."""
    return lambda wildcards: ENVIRONMENTS[SCALE.model(model(wildcards)).engine]


def needs(step, model=None, computes=lambda wildcards: True):
    """The resources of a job of `step`: GPUs, CPUs, and memory and time that grow with the attempt.

    `model` names, given the wildcards, the model that is sampled, whose own number of GPUs it may be; none at an
    endpoint. `computes`: whether a GPU has any work.
    """
    if step not in SCALE.needs:
        return {"gpu": 0}
    wanted = SCALE.needs[step]

    def gpus(wildcards):
        sampled = SCALE.model(model(wildcards)) if model else None
        if not wanted.gpus or not computes(wildcards) or (sampled and sampled.endpoint):
            return 0
        return max(wanted.gpus, sampled.gpus if sampled else 1)

    launch = SCALE.launch if step == "train" else Launch()
    resources = {"gpu": gpus}
    if launch.nodes > 1:
        # GPUs on each node, and one launcher there, which `gdpo train` starts: with `mpi` the job's command runs as it
        # is, while Snakemake's own srun would hold it on the first node. Without `tasks_per_gpu` each GPU had a task.
        resources = {"nodes": launch.nodes, "tasks": launch.nodes, "tasks_per_gpu": 0}
        resources |= {
            "mpi": "srun",
            **({"gres": f"gpu:{wanted.gpus}"} if wanted.gpus else {}),
        }
    return {
        **resources,
        "cpus_per_task": SCALE.threads * launch.processes,
        "mem_mb": lambda wildcards, attempt: int(wanted.memory_gb * 1024) * attempt,
        "runtime": lambda wildcards, attempt: math.ceil(wanted.hours * 60) * attempt,
    }


def refuse_beside_orphans():
    """End this call where jobs of a submission that died still run: none is ever run a second time beside itself."""
    orphans = CHECKOUT / "workflow" / "scripts" / "orphans.py"
    if subprocess.run([sys.executable, orphans]).returncode:
        sys.exit(1)


def start_preloaded():
    """Import once for all jobs of this call, where they run on this machine's CPUs and are more than a few.

    On a GPU each job imports for itself: that a forked child may use it was tried on none.
    """
    jobs = len(snakemake_compat.jobs_to_run(workflow))
    local = snakemake_compat.runs_here(workflow)
    able = local and not SCALE.uses_gpus and preload.available()
    if able and jobs >= preload.FEWEST_JOBS:
        preload.start(
            Path(ROOT, "logs", "preload.log"), offline=SCALE.world is not None
        )


def record_awaited():
    """Record what awaited orphans finished: Snakemake records only the settings of jobs that it saw finish."""
    awaited = Path(".snakemake/awaited")
    if awaited.exists():
        for job in snakemake_compat.jobs(workflow):
            if snakemake_compat.outputs(job) and not snakemake_compat.is_to_run(
                workflow, job
            ):
                snakemake_compat.record_finished(workflow, job)
        awaited.unlink()


def print_runs():
    """Say how many runs this call trains and reuses, and which rows of the tables that it makes are unlike."""
    runs = {to_run: 0 for to_run in (True, False)}
    for job in snakemake_compat.jobs(workflow):
        if snakemake_compat.rule_name(job).partition("_")[0] == "train":
            outputs = snakemake_compat.outputs(job)
            runs[snakemake_compat.is_to_run(workflow, job)] += len(outputs)
    print(
        f"runs to train: {runs[True]}; finished ones reused: {runs[False]}",
        file=sys.stderr,
    )
    made = {
        snakemake_compat.wildcards(job)["table"]
        for job in snakemake_compat.jobs_to_run(workflow)
        if snakemake_compat.rule_name(job).startswith("table_")
    }
    for sentence in unlike_rows.notes(LAYOUT, [t for t in SCALE.tables if t in made]):
        print(f"note: {sentence}", file=sys.stderr)


def planned_jobs():
    """Each job that is to run, with the seconds that it took by the kept costs of the scale, for `--logger gdpo`.

    Those of this machine come first.
    """
    kept = Path(CHECKOUT, "results", "reference", SCALE.scale, "cost.csv")
    costs = estimate.kept_costs(Path(ROOT, "cost.csv"), kept)

    def seconds(job):
        name, named = snakemake_compat.rule_name(job), snakemake_compat.wildcards(job)
        if name == "model" and SCALE.model(named["model"]).shipped:
            return None  # what is kept is the time that pretraining it took
        outputs = snakemake_compat.outputs(job)
        return estimate.kept_seconds(costs, name, len(outputs), named.get("method", ""))

    return {
        snakemake_compat.job_number(workflow, job): estimate.Planned(
            snakemake_compat.rule_name(job), seconds(job)
        )
        for job in snakemake_compat.jobs_to_run(workflow)
        if snakemake_compat.outputs(job)
    }


def repeat_job_errors(logs):
    """Repeat the sentences of failed jobs at the very end, since Snakemake's own messages come after them.

    `logs` are Snakemake's own of this call.
    """
    text = "".join(Path(log).read_text() for log in logs if Path(log).exists())
    for path in dict.fromkeys(re.findall(r"log: (\S+) \(check log file", text)):
        lines = Path(path).read_text(errors="replace") if Path(path).exists() else ""
        last = next(reversed(lines.strip().splitlines()), "")
        if last.startswith("gdpo: "):
            atexit.register(print, last, file=sys.stderr)
