"""How long the rest of a workflow takes, from the kept costs of its scale and from the jobs that have finished.

The Snakefile passes on what each job took when the kept results were made (`plan`). Here a job takes longer by its
imports, and its time depends on the machine: by how much is estimated from the jobs that finish. A job without a kept
cost is estimated by the finished ones of its rule, or of all rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

from gdpo.core.errors import UserError
from gdpo.core.files import read_csv

FEWEST = 5  # ours: finished jobs, without kept costs; the first ones say little about the others
STEPS = {"sources": "pool", "import_groups": "import", "pretrain": "model"}  # rules whose step has another name


class Planned(NamedTuple):
    """A job of this call: its rule, and the seconds that it took in the kept results, where that is known."""

    rule: str
    seconds: float | None


PLANNED: dict[int, Planned] = {}  # by the job's number; the Snakefile fills it in, in the process that displays


def kept_costs(*files: Path) -> dict[str, float]:
    """Step -> seconds a result took, from the first of the cost tables (gdpo.report.cost) that is there."""
    for path in files:
        try:
            rows = read_csv(path, "step", "results", "wall_seconds")
            return {row["step"]: float(row["wall_seconds"]) / int(row["results"]) for row in rows}
        except (UserError, ValueError, ZeroDivisionError):  # not there, or none that can be read: nothing is known
            continue
    return {}


def kept_seconds(costs: Mapping[str, float], rule: str, outputs: int, method: str = "") -> float | None:
    """What a job of `rule` with so many outputs took by `costs`; None where they do not say.

    Training and evaluation make one result a run, and evaluation a second output for each: its samples.
    """
    base, _, part = rule.partition("_")
    if base == "train":
        sweep = ", sweep" if part.startswith(("sweep", "extended")) else ""
        step, results = f"train {method}{sweep}", outputs
    elif base == "evaluate":
        step, results = base, outputs // 2
    elif base == "table":
        step, results = base, 1
    else:
        step, results = STEPS.get(rule, rule), outputs if rule in ("drift", "benchmark") else 1
    return costs[step] * results if step in costs else None


def plan(jobs: Mapping[int, Planned]) -> None:
    """Take these to be the jobs of this call."""
    PLANNED.clear()
    PLANNED.update(jobs)


@dataclass
class Estimate:
    """The times of the finished jobs of this call, and the estimates for the others; in seconds."""

    planned: Mapping[int, Planned]
    durations: dict[str, list[float]] = field(default_factory=dict)  # by rule
    # Of finished jobs: the kept seconds and the seconds here.
    kept_and_measured: list[tuple[float, float]] = field(default_factory=list)

    def finish(self, job: int, rule: str, seconds: float) -> None:
        self.durations.setdefault(rule, []).append(seconds)
        if (kept := self._kept(job)) is not None:
            self.kept_and_measured.append((kept, seconds))

    def job(self, job: int, rule: str) -> float | None:
        """How long a job takes; None where nothing is known."""
        if (kept := self._kept(job)) is not None:
            return self._scaled(kept)
        if rule in self.durations:
            return mean(self.durations[rule])
        every = [seconds for times in self.durations.values() for seconds in times]
        return median(every) if every else None

    def left(self, running: Iterable[tuple[int, str, float]], waiting: Iterable[tuple[int, str]], slots: int) -> float:
        """How long all else takes, `slots` jobs at once: (job, rule, seconds so far) of what runs, and what waits.

        A job of which nothing is known yet counts as nothing; `known` says whether enough is.
        """
        jobs = [*running, *((job, rule, 0.0) for job, rule in waiting)]
        rest = [max(0.0, (self.job(job, rule) or 0.0) - so_far) for job, rule, so_far in jobs]
        return max(sum(rest) / max(1, slots), max(rest, default=0.0))

    def _scaled(self, kept: float) -> float:
        """The estimate from a kept time: scaled where jobs are faster here, and longer by their median delay here."""
        before = sum(once for once, _ in self.kept_and_measured)
        here = sum(now for _, now in self.kept_and_measured)
        faster = min(1.0, here / before) if before else 1.0
        return kept * faster + median([max(0.0, now - once) for once, now in self.kept_and_measured] or [0.0])

    def _kept(self, job: int) -> float | None:
        return self.planned[job].seconds if job in self.planned else None

    @property
    def known(self) -> bool:
        """Whether there are kept costs or enough finished jobs."""
        kept = any(planned.seconds is not None for planned in self.planned.values())
        return kept or sum(map(len, self.durations.values())) >= FEWEST
