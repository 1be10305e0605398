"""A plan: the jobs of some targets, each with the time, memory and money that it is predicted to take.

A predicted time is that of a job's work, as provenance counts it: without imports, which jobs of one machine share.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from gdpo.config.resources import Needs
from gdpo.config.scale import Scale
from gdpo.core.project import PROJECT
from gdpo.display.estimate import kept_costs
from gdpo.models.shapes import GIB, Parts, sampling_memory, shape_of, worst_memory
from gdpo.ops.plan.amounts import Amounts, Work
from gdpo.ops.plan.jobs import Job, Time, find_jobs, target_paths, total
from gdpo.ops.plan.rates import Rates

GPUS = 8  # ours: GPUs at once where --workers is absent, as many as a node has
# One job of each waits for one of the step before it.
CHAIN = (
    "model", "benchmark", "sources", "decontaminate", "annotate", "merge", "answer", "proficiency", "select", "respond",
    "reward", "part", "train", "evaluate", "drift", "table", "publish",
)  # fmt: skip


@dataclass(frozen=True)
class Prediction:
    """What one job is predicted to take.

    `sources`: where its time comes from. `memory`: what -> bytes by part, on each GPU. `measured`: what it took.
    """

    job: Job
    work: list[Work]
    time: Time
    sources: set[str]
    memory: dict[str, Parts] = field(default_factory=dict)
    measured: Time | None = None

    @property
    def gpu_seconds(self) -> float:
        return self.time.seconds * self.job.gpus

    @property
    def memory_gib(self) -> float:
        """The most that one GPU holds."""
        return max((sum(parts.values()) for parts in self.memory.values()), default=0.0) / GIB

    @property
    def money(self) -> float:
        return sum(piece.money() for piece in self.work)


@dataclass(frozen=True)
class Plan:
    """The predictions for all jobs of `targets`, and what to look at before anything is spent."""

    scale: Scale
    targets: list[str]
    workers: int
    predictions: list[Prediction]
    warnings: list[str]

    @property
    def done(self) -> bool:
        return all(prediction.job.done for prediction in self.predictions)

    @property
    def lines(self) -> dict[str, list[Prediction]]:
        """The predictions by step, in the workflow's order; steps that no step waits for come last."""
        lines: dict[str, list[Prediction]] = {}
        for prediction in self.predictions:
            lines.setdefault(prediction.job.line, []).append(prediction)
        order = {step: place for place, step in enumerate(CHAIN)}
        return dict(sorted(lines.items(), key=lambda line: (order.get(line[1][0].job.step, len(CHAIN)), line[0])))

    def spent(self, predictions: Sequence[Prediction]) -> float:
        """Their seconds together; GPU-seconds where jobs of the scale need GPUs."""
        gpus = self.scale.uses_gpus
        return sum(p.gpu_seconds if gpus else p.time.seconds for p in predictions)

    def wall(self, to_do: bool = False) -> float:
        """The least seconds of the clock: all jobs side by side, or the longest of each step one after the other."""
        counted = [prediction for prediction in self.predictions if not (to_do and prediction.job.done)]
        longest: dict[str, float] = {}
        for prediction in counted:
            step = prediction.job.step
            longest[step] = max(longest.get(step, 0.0), prediction.time.seconds)
        return max(self.spent(counted) / self.workers, sum(longest.get(step, 0.0) for step in CHAIN))


def make_plan(scale: Scale, source: str, targets: Sequence[str], workers: int | None = None) -> Plan:
    """The plan of what `targets` need. Raises UserError where Snakemake or `expected` lacks something."""
    world = scale.world.seed if scale.worlds and scale.world else None
    jobs = find_jobs(source, scale.limit, target_paths(targets, scale), world)
    return Planner(scale, jobs).plan(list(targets), workers or (GPUS if scale.uses_gpus else os.cpu_count() or 1))


class Planner:
    """Turns jobs, and what finished ones took, into a plan."""

    def __init__(self, scale: Scale, jobs: Sequence[Job]):
        self.scale, self.jobs = scale, jobs
        self.needs: dict[str, Needs] = dict(scale.needs.items())
        self.amounts = Amounts(scale)
        self.work = {job.command: self.amounts.of(job) for job in jobs}
        self.measured = {job.command: time for job in jobs if (time := job.measured()) and self.work[job.command]}
        self.rates = Rates(scale, [(self.work[command], time) for command, time in self.measured.items()])
        files = [scale.root / "cost.csv"]
        if scale.limit is None:  # the kept results are those of the whole scale
            files.append(PROJECT / "results" / "reference" / scale.scale / "cost.csv")
        self.costs = kept_costs(*files)

    def plan(self, targets: list[str], workers: int) -> Plan:
        predictions = [self.predict(job) for job in self.jobs]
        warnings = {warning for prediction in predictions for warning in self._warnings(prediction)}
        return Plan(self.scale, targets, workers, predictions, sorted(warnings | self._over_budget(predictions)))

    def predict(self, job: Job) -> Prediction:
        """What `job` takes."""
        work = self.work[job.command]
        times, sources = self._times(job, work)
        return Prediction(job, work, total(times), sources, self._memory(job), self.measured.get(job.command))

    def _times(self, job: Job, work: Sequence[Work]) -> tuple[list[Time], set[str]]:
        """The times of a job's pieces, and where they come from: the best known first."""
        if not work:
            return [], {"unknown" if job.gpus else "light"}
        computed = [(piece, self.rates.observed(piece)) for piece in work if piece.kind != "ask"]
        cost = self.costs.get(job.line)
        if cost is not None and not all(observed for _, observed in computed):
            return [Time(cost * max(1, len(job.runs)))], {"kept"}
        if (alike := self._alike(job)) is not None and not all(observed for _, observed in computed):
            return [Time(alike * max(1, len(job.runs)))], {"alike"}
        times, sources = [], set() if computed else {"asked"}
        for piece, observed in computed:
            assumed = None if observed else self.rates.assumed(piece)
            source, rate = observed or ("assumed" if assumed else "unknown", assumed)
            sources.add(source)
            # An assumed rate is of one GPU, and calibration trains in one process; a finished job had all its GPUs.
            alone = source == "assumed" or (source == "measured" and piece.kind == "train")
            times += [rate.time(piece, max(1, job.gpus) if alone else 1)] if rate else []
        return times, sources

    def _alike(self, job: Job) -> float | None:
        """Seconds a run of the scale's other methods with the same trainer, on average; None where none is kept."""
        if job.step != "train":
            return None
        trainer = self.scale.methods[job.arguments.method[0].partition("~")[0]].trainer
        end = job.line.removeprefix("train").partition(",")[1:]  # `, sweep` or nothing
        names = [name for name, method in self.scale.methods.items() if method.trainer == trainer]
        lines = ["".join((f"train {name}", *end)) for name in names]
        known = [self.costs[line] for line in lines if line in self.costs]
        return sum(known) / len(known) if known else None

    def _memory(self, job: Job) -> dict[str, Parts]:
        """What a job holds in each GPU, by arithmetic: run -> bytes by part; empty where no card is assumed."""
        options, gpus = job.arguments, job.gpus
        if not gpus or not (self.scale.expected and self.scale.expected.card):
            return {}
        shape = shape_of(self.scale, options.student) if job.step in ("train", "noise", "evaluate") else None
        if shape is None:
            return {}
        if job.step == "evaluate":
            longest = max(benchmark.max_new_tokens for benchmark in self.scale.benchmarks.values())
            # vLLM takes as many rows as fit; one of the longest must
            rows = 1 if self.scale.model(options.student).engine == "vllm" else self.scale.eval_batch_size
            return {f"evaluate {options.student}": sampling_memory(shape, rows, longest, gpus)}
        memory = {}
        for name in options.method:
            method = self.scale.method(name, options.student, options.trainset)
            group = min(method.group_size or math.inf, self.amounts.sizes.group_size(options.trainset))
            # The noise measurement is one process.
            shards = gpus if self.scale.launch.strategy == "fsdp2" and job.step == "train" else 1
            run = f"{job.step} {options.student} by {name.partition('~')[0]}"
            memory[run] = worst_memory(shape, method, int(group), shards, checkpointing=True)
        return memory

    def _warnings(self, prediction: Prediction) -> list[str]:
        """What of a job does not fit the card or the time that it asks for."""
        job, warnings = prediction.job, []
        card = self.scale.expected.card if self.scale.expected else None
        for run, parts in prediction.memory.items():
            held = sum(parts.values()) / GIB
            if card and held > card.memory_gib:
                warnings.append(f"does not fit: {run} holds {held:.1f} GiB a GPU; {card.name} has {card.memory_gib:g}")
        needs = self.needs.get(job.step)
        hours = prediction.time.seconds / 3600
        if needs and hours > needs.hours:
            warnings.append(
                f"{job.line}: a job takes up to {hours:.0f} hours; needs.{job.step}.hours is {needs.hours:g}"
            )
        return warnings

    def _over_budget(self, predictions: Sequence[Prediction]) -> set[str]:
        """Endpoints at which a step spends more than their budget."""
        spent: dict[tuple[str, str], float] = {}
        budgets = {}
        for prediction in predictions:
            for piece in prediction.work:
                if piece.endpoint and piece.endpoint.budget.money is not None:
                    payer = prediction.job.line, piece.model
                    budgets[payer] = piece.endpoint.budget.money
                    spent[payer] = spent.get(payer, 0.0) + piece.money()
        return {
            f"{step}: {spent[step, model]:,.2f} in money is over the budget of {budget:,.2f}"
            for (step, model), budget in budgets.items()
            if spent[step, model] > budget
        }
