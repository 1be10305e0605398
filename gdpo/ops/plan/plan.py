"""A plan: the jobs of some targets with what each is predicted to take, summed up by step, beside what it took.

Predicted is the whole job, its start-up included; measured what Snakemake kept of finished jobs, or their provenance.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from gdpo.config.layout import Layout, Run
from gdpo.config.models import Endpoint, Model
from gdpo.config.resources import Needs
from gdpo.config.scale import Scale
from gdpo.models.request_log import cost
from gdpo.ops.plan import jobs as workflow
from gdpo.ops.plan.amounts import Amounts, Work
from gdpo.ops.plan.jobs import Job, Took
from gdpo.ops.plan.rates import Rates
from gdpo.ops.plan.shapes import GIB, sampling_memory, shape_of, training_memory

# ours: GPUs of a node, where a plan is not told how many
NODE = 8
# What these import falls into the time that is recorded beside their results; the others' into their job's alone.
IMPORT_LATE = ("model", "train", "noise")
# One job of each waits for one of the step before it.
CHAIN = (
    "model", "benchmark", "sources", "decontaminate", "annotate", "merge", "answer", "proficiency", "select", "respond",
    "reward", "part", "train", "evaluate", "drift", "table", "publish",
)  # fmt: skip


@dataclass
class Line:
    """One step of a plan; seconds are of whole jobs, predicted, and `measured` of those that are done."""

    step: str
    jobs: int = 0
    done: int = 0
    runs: set[Run] = field(default_factory=set)
    runs_done: set[Run] = field(default_factory=set)
    trained: float = 0.0
    sampled: float = 0.0
    read: float = 0.0  # prompts that are sampled from, and what is scored without sampling
    asked: tuple[float, float] = (0.0, 0.0)  # prompt and completion tokens
    money: float = 0.0
    seconds: float = 0.0
    cpu: float = 0.0  # processor seconds, start-ups included, where they were measured
    gpu_seconds: float = 0.0
    to_do: float = 0.0  # of the seconds, or of the GPU-seconds where jobs need GPUs, those of jobs that are not done
    memory_gib: float = 0.0
    origins: set[str] = field(default_factory=set)
    compared: float = 0.0  # predicted seconds of the jobs that were measured
    measured: float = 0.0
    compared_cpu: float = 0.0  # and their predicted processor seconds, as far as provenance counts them
    measured_cpu: float = 0.0
    longest: float = 0.0  # seconds of one job
    longest_to_do: float = 0.0


@dataclass
class Plan:
    """What a plan says; `elapsed` are the seconds from the first job's begin to the last one's end, where known."""

    scale: Scale
    targets: list[str]
    workers: int
    lines: list[Line]
    warnings: list[str]
    trainings: dict[tuple[str, str, str], tuple[set[int], set[int]]]  # student, trainset, method: seeds, and those done
    elapsed: float | None = None
    memory: dict[str, dict[str, float]] = field(default_factory=dict)  # run -> bytes by part, on each GPU
    counted: tuple[int, int] = (0, 0)  # training sets whose groups were counted on disk, of so many

    @property
    def seconds(self) -> float:
        return sum(line.seconds for line in self.lines)

    def wall(self, to_do: bool = False) -> float:
        """At the least: all jobs side by side, or the longest job of each step behind that of the step before."""
        spent = "gpu_seconds" if self.scale.uses_gpus else "seconds"
        total = sum(line.to_do if to_do else getattr(line, spent) for line in self.lines)
        by_step: dict[str, float] = {}
        for line in self.lines:
            step = line.step.partition(" ")[0]
            by_step[step] = max(by_step.get(step, 0.0), line.longest_to_do if to_do else line.longest)
        return max(total / self.workers, sum(by_step.get(step, 0.0) for step in CHAIN))


def make_plan(scale: Scale, source: str, targets: Sequence[str], workers: int | None = None) -> Plan:
    """The plan of what `targets` need. Raises UserError where Snakemake or `expected` lacks something."""
    layout = Layout(scale)
    found = workflow.jobs(source, scale.limit, workflow.paths(targets, scale))
    kept = workflow.times()
    return Planner(
        scale, found, {job.command: took for job in found if (took := workflow.job_timing(layout, job, kept))}
    ).plan(list(targets), workers or (NODE if scale.uses_gpus else os.cpu_count() or 1))


class Planner:
    """Turns jobs, and what finished ones took, into a plan."""

    def __init__(self, scale: Scale, jobs: Sequence[Job], took: dict[str, Took]):
        self.scale, self.jobs, self.took = scale, jobs, took
        self.amounts = Amounts(scale)
        self.work = {job.command: self.amounts.of(job) for job in jobs}
        self.rates = Rates(scale)
        self.rates.learn(self._finished())
        self.needs: dict[str, Needs] = dict(scale.needs.items())
        self.warnings: dict[str, None] = {}
        self.memory: dict[str, dict[str, float]] = {}

    def _finished(self) -> list[tuple[Work, float]]:
        """Of finished jobs whose work is all of one kind: that work, and its seconds without the start-up."""
        found = []
        for job in self.jobs:
            works = self.work[job.command]
            if job.done and job.command in self.took and len({self.rates.key(work) for work in works}) == 1:
                seconds = max(0.0, self.took[job.command].seconds - self.rates.start(job.step).seconds)
                total = sum(work.amount for work in works)
                found += [(work, seconds * work.amount / total) for work in works if total]
        return found

    def plan(self, targets: list[str], workers: int) -> Plan:
        lines: dict[str, Line] = {}
        trainings: dict[tuple[str, str, str], tuple[set[int], set[int]]] = {}
        for job in self.jobs:
            self._add(lines.setdefault(named(job), Line(named(job))), job)
            for run in job.runs if job.step == "train" else []:
                seeds = trainings.setdefault((run.student, run.trainset, run.method), (set(), set()))
                for known in seeds if job.done else seeds[:1]:
                    known.add(run.seed)
        done = [self.took[job.command] for job in self.jobs if job.done and job.command in self.took]
        spans = [(t.begun, t.ended) for t in done if t.begun is not None and t.ended is not None]
        all_done = all(job.done for job in self.jobs) and len(spans) == len(self.jobs)
        elapsed = max(end for _, end in spans) - min(begin for begin, _ in spans) if spans and all_done else None
        self._check_money(lines)
        ordered = sorted(lines.values(), key=lambda line: (_place(line.step), line.step))
        taught = [self.amounts.sizes.groups(name).counted for name in {trainset for _, trainset, _ in trainings}]
        counted = sum(taught), len(taught)
        return Plan(
            self.scale, targets, workers, ordered, sorted(self.warnings), trainings, elapsed, self.memory, counted
        )

    def _add(self, line: Line, job: Job) -> None:
        line.jobs += 1
        line.done += job.done
        line.runs |= set(job.runs)
        line.runs_done |= set(job.runs) if job.done else set()
        start = self.rates.start(job.step)
        gpus, seconds, cpu = self.gpus(job), start.seconds, 0.0
        for work in self.work[job.command]:
            self._count(line, work)
            rate = self.rates.of(work)
            if rate is None:
                line.origins.add("unknown" if work.kind != "ask" else "asked")
                continue
            # Assumed rates are of one GPU, and calibration trains in one process; a finished job had all its GPUs.
            alone = rate.origin == "assumed" or (rate.origin == "measured" and work.kind == "train")
            seconds += rate.of(work, max(1, gpus) if alone else 1)
            cpu += rate.cpu_of(work)
            line.origins.add(rate.origin)
            line.memory_gib = max(line.memory_gib, rate.memory_mb / 1024)
        if not self.work[job.command]:
            line.origins.add("unknown" if gpus else "light")
        line.seconds += seconds
        line.cpu += start.cpu + cpu
        line.gpu_seconds += seconds * gpus
        line.longest = max(line.longest, seconds)
        if not job.done:
            line.to_do += seconds * gpus if self.scale.uses_gpus else seconds
            line.longest_to_do = max(line.longest_to_do, seconds)
        self._memory(line, job, gpus)
        asked = self.needs.get(job.step)
        if asked and seconds > 3600 * asked.hours:
            self.warnings[
                f"{line.step}: a job takes up to {seconds / 3600:.0f} hours; needs.{job.step}.hours is {asked.hours:g}"
            ] = None
        if job.done and job.command in self.took:
            line.compared += seconds
            line.compared_cpu += cpu + (start.cpu if job.step in IMPORT_LATE else 0.0)
            line.measured += self.took[job.command].seconds
            line.measured_cpu += self.took[job.command].cpu_seconds

    def _count(self, line: Line, work: Work) -> None:
        if work.kind == "train":
            line.trained += work.tokens
            line.sampled += work.rollouts
        elif work.kind in ("sample", "evaluate"):
            line.sampled += work.tokens
            line.read += work.prompt
        elif work.kind == "score":
            line.read += work.tokens
        elif work.kind == "ask":
            line.asked = (line.asked[0] + work.prompt, line.asked[1] + work.tokens)
            price = self._endpoint(work.model, line.step).price
            line.money += cost(work.prompt, work.tokens, price) if price else 0.0

    def _endpoint(self, model: str, step: str) -> Endpoint:
        """Annotation's and merging's own, whatever models it is called like; of other steps that of the scale's model.

        Only what has an endpoint is asked (gdpo.ops.plan.amounts).
        """
        if step == "annotate":
            return self.scale.annotate.needed_endpoint
        if step == "merge":
            return self.scale.merge.needed_endpoint
        endpoint = self.scale.model(model).endpoint
        assert endpoint is not None
        return endpoint

    def gpus(self, job: Job) -> int:
        """How many GPUs a job asks for, as `needs` of workflow/rules/jobs.smk says; of training, on all its nodes."""
        asked = self.needs.get(job.step)
        if asked is None or not asked.gpus:
            return 0
        given = job.arguments
        sampled: Model | None = None
        if job.step == "model":
            return asked.gpus if self.scale.model(given.name).tuned else 0
        if job.step in ("answer", "evaluate"):
            sampled = self.scale.model(given.model if job.step == "answer" else given.student)
        if job.step == "respond":
            sampled = self.scale.model(self.scale.respond_of(given.trainset).teacher)
        if job.step == "judge" and self.scale.judge.backend == "rules":
            return 0
        if sampled and sampled.endpoint:
            return 0
        nodes = self.scale.launch.nodes if job.step == "train" else 1
        return nodes * max(asked.gpus, sampled.gpus if sampled else 1)

    def _memory(self, line: Line, job: Job, gpus: int) -> None:
        """The most that one GPU holds, by arithmetic, where nothing was measured; and whether that fits."""
        card = self.scale.expected.card if self.scale.expected else None
        if card is None or not gpus:
            return
        for what, parts in self._held(job, gpus):
            held = sum(parts.values()) / GIB
            line.memory_gib = max(line.memory_gib, held)
            if job.step != "evaluate":
                self.memory[f"{what}, {gpus} {'GPU' if gpus == 1 else 'GPUs'}"] = parts
            if held > card.memory_gib:
                self.warnings[
                    f"does not fit: {what} holds {held:.1f} GiB a GPU; {card.name} has {card.memory_gib:g}"
                ] = None

    def _held(self, job: Job, gpus: int) -> list[tuple[str, dict[str, float]]]:
        given = job.arguments
        shape = shape_of(self.scale, given.student) if job.step in ("train", "noise", "evaluate") else None
        if shape is None:
            return []
        if job.step == "evaluate":
            longest = max(benchmark.max_new_tokens for benchmark in self.scale.benchmarks.values())
            # vLLM takes as many rows as fit; one of the longest must
            rows = 1 if self.scale.model(given.student).engine == "vllm" else self.scale.eval_batch_size
            return [(f"evaluate {given.student}", sampling_memory(shape, rows, longest, gpus))]
        found = []
        for name in given.method:
            method = self.scale.method(name, given.student, given.trainset)
            group = min(method.group_size or math.inf, self.amounts.sizes.group_size(given.trainset))
            # The noise measurement is one process.
            shards = gpus if self.scale.launch.strategy == "fsdp2" and job.step == "train" else 1
            parts = training_memory(shape, method, int(group), shards, checkpointing=True)
            found.append((f"{job.step} {given.student} by {name.partition('~')[0]}", parts))
        return found

    def _check_money(self, lines: dict[str, Line]) -> None:
        for step, line in lines.items():
            for name in sorted({work.model for job in self.jobs for work in self.work[job.command]
                                if work.kind == "ask" and named(job) == step}):  # fmt: skip
                budget = self._endpoint(name, step).budget
                if budget.money is not None and line.money > budget.money:
                    over = f"{line.money:,.2f} in money is over the budget of {budget.money:,.2f}"
                    self.warnings[f"{step}: {over}"] = None


def _place(step: str) -> int:
    """Where a step stands in the workflow; what no step waits for comes last."""
    name = step.partition(" ")[0]
    return CHAIN.index(name) if name in CHAIN else len(CHAIN)


def named(job: Job) -> str:
    """What a plan calls a job's step: training by its method, the sweep's apart."""
    if job.step != "train":
        return job.step
    method, _, rate = job.arguments.method[0].partition("~")
    return f"train {method}, sweep" if rate else f"train {method}"
