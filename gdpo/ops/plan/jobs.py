"""The jobs of a scale as Snakemake names them: every rule is one call of `gdpo`, so that a job is a command line.

Two dry runs say which there are, with everything made anew, and which of them are still to do.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

from gdpo.config.layout import Layout, Run
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError, last_line
from gdpo.core.extras import require
from gdpo.core.project import PROJECT, require_checkout
from gdpo.core.provenance import provenance_path
from gdpo.core.result_files import Provenance, read_stored

SHELL = "Shell command: "
SNAKEFILE = PROJECT / "Snakefile"
METADATA = Path(".snakemake") / "metadata"


@dataclass(frozen=True)
class Job:
    """One call of `gdpo`, as the workflow makes it, and whether its results are there."""

    command: str
    done: bool

    @cached_property
    def arguments(self) -> SimpleNamespace:
        return arguments(called(self.command))

    @property
    def step(self) -> str:
        """The step's name: of `gdpo metakl answer` answer."""
        step: str = self.arguments.step
        return step

    @property
    def runs(self) -> list[Run]:
        """The runs of the matrix that the job trains or scores; none where it is about none."""
        given = self.arguments
        if not hasattr(given, "seeds"):
            return []
        return [Run(given.student, given.trainset, method, seed) for method in given.method for seed in given.seeds]


def called(command: str) -> list[str]:
    """The arguments of `gdpo` in a command line, however it is started there."""
    words = shlex.split(command)
    for place, word in enumerate(words):
        if Path(word).name == "gdpo" or word == "gdpo.cli":
            return words[place + 1 :]
    raise ValueError(f"expected a call of gdpo, found {command!r}")


def arguments(words: Sequence[str]) -> SimpleNamespace:
    """The last of the words before the options as `step`, and each option's value; a list where it takes several.

    The workflow writes every option as `--NAME VALUE...`, so that no parser of the command line is needed here.
    """
    options: dict[str, list[str]] = {}
    steps: list[str] = []
    values = steps
    for word in words:
        if word.startswith("--"):
            values = options.setdefault(word.removeprefix("--"), [])
        else:
            values.append(word)
    several = {"method": list, "seeds": lambda seeds: [int(seed) for seed in seeds]}
    return SimpleNamespace(
        step=steps[-1], **{name: several.get(name, lambda value: value[0])(given) for name, given in options.items()}
    )


def commands(text: str) -> list[str]:
    """The commands of a dry run's text, in order, each once."""
    lines = (line.partition(SHELL)[2] for line in text.splitlines() if line.startswith(SHELL))
    found = dict.fromkeys(normal(line) for line in lines)
    return [command for command in found if command != "None"]  # of a rule that only names its inputs


def normal(command: str) -> str:
    return " ".join(command.split())


def jobs(scale: str, limit: int | None, targets: Sequence[str]) -> list[Job]:
    """Every job that `targets` need. `scale`: as --scale has it. Raises UserError where Snakemake finds none."""
    to_do = set(commands(dry_run(scale, limit, targets)))
    every = commands(dry_run(scale, limit, targets, "--forceall"))
    return [Job(command, command not in to_do) for command in every]


def dry_run(scale: str, limit: int | None, targets: Sequence[str], *options: str) -> str:
    """What `snakemake -n -p` prints."""
    require_checkout("the workflow")
    require("snakemake")
    config = [f"scale={scale}", *([f"limit={limit}"] if limit else [])]
    command = [sys.executable, "-m", "snakemake", "-s", str(SNAKEFILE), "-n", "-p", "--nocolor", *targets, *options]
    done = subprocess.run(
        [*command, "--config", *config],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    if done.returncode:
        # Behind an error in a Snakefile stands where it is.
        said = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("  File ")]
        raise UserError(f"snakemake -n {' '.join(targets)}: {last_line(chr(10).join(said)).removeprefix('gdpo: ')}")
    return done.stdout + done.stderr


def paths(targets: Iterable[str], scale: Scale) -> list[str]:
    """Targets as Snakemake knows them: a table by its name is results/NAME.csv."""
    return [f"results/{name}.csv" if name in scale.tables else name for name in targets]


def results(layout: Layout, job: Job) -> list[Path]:
    """The results of a job beside which its time is recorded; none of a step that a plan does not time alone."""
    given, step = job.arguments, job.step
    if step == "train":
        return [layout.run(run) for run in job.runs]
    if step == "evaluate":
        return [layout.score(run, given.split) for run in job.runs]
    if step == "drift":
        return [layout.drift(run) for run in job.runs]
    named = {
        "model": lambda: layout.model(given.name),
        "answer": lambda: layout.answers(given.model),
        "respond": lambda: layout.responses(given.trainset),
        "noise": lambda: layout.noise(given.student, given.trainset, given.method[0]),
        "annotate": lambda: layout.skills,
        "merge": lambda: layout.annotated,
    }
    return [named[step]()] if step in named else []


@dataclass(frozen=True)
class Took:
    """What a finished job took: seconds of the whole job, with its start-up, or of its results alone; CPU seconds."""

    seconds: float
    cpu_seconds: float
    begun: float | None = None  # epoch seconds, where Snakemake has kept them
    ended: float | None = None


def job_timing(layout: Layout, job: Job, kept: dict[str, tuple[float, float]]) -> Took | None:
    """What a job took as far as is recorded; `kept` as `times` has it."""
    found = [provenance_path(path) for path in results(layout, job)]
    records = [read_stored(path, Provenance) for path in found if path.exists()]
    cpu = sum(record["cpu_seconds"] for record in records)
    if normal(job.command) in kept:
        begun, ended = kept[normal(job.command)]
        return Took(ended - begun, cpu, begun, ended)
    return Took(sum(record["wall_seconds"] for record in records), cpu) if records else None


def times(directory: Path = METADATA) -> dict[str, tuple[float, float]]:
    """Command -> when the job began and ended, in epoch seconds, as Snakemake keeps it beside each of its outputs."""
    found = {}
    for path in directory.rglob("*") if directory.exists() else ():
        if not path.is_file():
            continue
        try:
            base64.b64decode(path.name, validate=True)
            record = json.loads(path.read_text(encoding="utf-8"))
            found[normal(record["shellcmd"])] = (record["starttime"], record["endtime"])
        except (binascii.Error, ValueError, KeyError, TypeError, AttributeError):
            continue  # of another version of Snakemake, or half-written
    return found
