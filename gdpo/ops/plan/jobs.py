"""The jobs that targets need, read from Snakemake's dry runs, and what finished ones took.

Every rule is one call of `gdpo`, so that a job's step and options are in its command line. Its outputs and its GPUs are
in the same text. One dry run makes everything anew and so lists all jobs; another lists those that are still to do.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from gdpo.config.layout import Run
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError, last_line
from gdpo.core.extras import require
from gdpo.core.project import PROJECT, require_checkout
from gdpo.core.provenance import provenance_path
from gdpo.core.result_files import Provenance, read_stored

SNAKEFILE = PROJECT / "Snakefile"
LISTS = {"method": str, "seeds": int}  # options that take several values, and what each value is


class Time(NamedTuple):
    """Seconds of the clock and seconds of the processor, which do not grow with what else the machine does."""

    seconds: float = 0.0
    cpu: float = 0.0


def total(times: Iterable[Time]) -> Time:
    """The sum, clock and processor each."""
    listed = list(times)
    return Time(sum(time.seconds for time in listed), sum(time.cpu for time in listed))


@dataclass(frozen=True)
class Job:
    """One call of `gdpo` as the workflow makes it.

    `done`: its results are there and up to date. `outputs`: their paths. `gpus`: those it asks for, on all its nodes.
    """

    command: str
    done: bool = False
    outputs: tuple[str, ...] = ()
    gpus: int = 0

    @cached_property
    def arguments(self) -> SimpleNamespace:
        """The command's last word before its options as `step`, and the value of each option.

        The workflow writes every option as `--NAME VALUE...`, so that no parser of the command line is needed.
        """
        commands, *options = " ".join(shlex.split(self.command)).split(" --")
        arguments = SimpleNamespace(step=commands.split()[-1])
        for option in options:
            name, *values = option.split()
            setattr(arguments, name, [LISTS[name](value) for value in values] if name in LISTS else " ".join(values))
        return arguments

    @property
    def step(self) -> str:
        """The step's name; `answer` for `gdpo metakl answer`."""
        step: str = self.arguments.step
        return step

    @property
    def runs(self) -> list[Run]:
        """The runs of the matrix that the job trains or scores; none for a job about no run."""
        options = self.arguments
        if not hasattr(options, "seeds"):
            return []
        return [Run(options.student, options.trainset, name, seed) for name in options.method for seed in options.seeds]

    @property
    def line(self) -> str:
        """The job's step in a plan and in cost.csv: training by its method, the learning-rate sweep apart."""
        if self.step != "train":
            return self.step
        method, _, rate = self.arguments.method[0].partition("~")
        return f"train {method}, sweep" if rate else f"train {method}"

    def measured(self) -> Time | None:
        """What the results of a finished job took, by their provenance files; None where there is none.

        Imports and all else before a step begins are not in it.
        """
        paths = [provenance_path(Path(output)) for output in self.outputs] if self.done else []
        records = [read_stored(path, Provenance) for path in paths if path.exists()]
        return total(Time(record["wall_seconds"], record["cpu_seconds"]) for record in records) if records else None


def parse(text: str) -> list[Job]:
    """The jobs of a dry run's text, in order, each once. A job's lines are `NAME: VALUE`; its command is the last."""
    jobs: dict[str, Job] = {}
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.strip().partition(": ")
        if name != "Shell command":
            fields[name] = value
            continue
        if value != "None":  # of a rule that only names its inputs
            resources = dict(entry.partition("=")[::2] for entry in fields["resources"].split(", "))
            # A job of several nodes requests the GPUs of each as `gres` (workflow/rules/jobs.smk).
            gpus = resources.get("gpu") or resources.get("gres", "gpu:0").removeprefix("gpu:")
            nodes = resources.get("nodes", 1)
            jobs[value] = Job(value, outputs=tuple(fields["output"].split(", ")), gpus=int(gpus) * int(nodes))
        fields = {}
    return list(jobs.values())


def find_jobs(scale: str, limit: int | None, targets: Sequence[str], world: int | None = None) -> list[Job]:
    """Every job that `targets` need. `scale`: as --scale has it. Raises UserError where Snakemake finds none."""
    config = [f"scale={scale}", *([f"limit={limit}"] if limit else []), *([f"world={world}"] if world else [])]
    to_do = {job.command for job in parse(dry_run(config, targets))}
    return [replace(job, done=job.command not in to_do) for job in parse(dry_run(config, targets, "--forceall"))]


def dry_run(config: Sequence[str], targets: Sequence[str], *options: str) -> str:
    """What `snakemake -n -p` prints; `config` as --config has it."""
    require_checkout("the workflow")
    require("snakemake")
    command = [sys.executable, "-m", "snakemake", "-s", str(SNAKEFILE), "-n", "-p", "--nocolor", *targets, *options]
    process = subprocess.run(
        [*command, "--config", *config],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    output = process.stdout + process.stderr
    if process.returncode:
        # An error in a Snakefile is followed by its place there.
        error = last_line("\n".join(line for line in output.splitlines() if not line.startswith("  File ")))
        raise UserError(key=f"snakemake -n {' '.join(targets)}", problem=error.removeprefix("gdpo: "))
    return output


def target_paths(targets: Iterable[str], scale: Scale) -> list[str]:
    """Targets as Snakemake knows them: the table NAME is results/NAME.csv."""
    return [f"results/{name}.csv" if name in scale.tables else name for name in targets]
