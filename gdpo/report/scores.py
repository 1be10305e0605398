"""Scores, differences and retention of runs, in percent, from the items' verdicts.

Score: the share of items that are right; an item that was sampled several times counts by the share of its samples.
Retention: of the items that the untrained student had right, the share that the trained one still has right. Averages
over benchmarks are macro, as in the paper. Each file is read once, and each bootstrap mean is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gdpo.config.layout import Layout, Run, Split
from gdpo.core.errors import UserError
from gdpo.core.result_files import RunScores, Sample, read_rows, read_stored
from gdpo.evaluate.samples import RIGHT_BEFORE, SampleRow, share_right
from gdpo.report.bootstrap import bootstrap_means

Runs = Sequence[Run]
Bootstrapped = tuple[float, np.ndarray]  # a mean or difference in percent, and its bootstrap means, (bootstrap_draws,)


class Scores:
    """The outcomes behind a scale's cells. The argument `runs` is one cell's runs, one a seed."""

    def __init__(self, layout: Layout, split: Split = "test"):
        self.layout = layout
        self.split = split
        self._ids: dict[str, list[str]] = {}
        self._outcomes: dict[tuple, np.ndarray | None] = {}
        self._bootstrap_means: dict[tuple, np.ndarray] = {}

    def outcomes(self, runs: Runs, benchmark: str) -> np.ndarray | None:
        """The share of each item's samples that are right, (seeds, items): 0 or 1 where it was asked once.

        None where the benchmark was dropped for one of the runs. Raises UserError where two runs were scored on
        different items, whose scores cannot be paired.
        """
        key = (tuple(runs), benchmark)
        if key not in self._outcomes:
            rows = [self._row(run, benchmark) for run in runs]
            complete = bool(rows) and all(row is not None for row in rows)
            self._outcomes[key] = np.array(rows, dtype=np.float32) if complete else None
        return self._outcomes[key]

    def items(self, run: Run, benchmark: str) -> Sequence[SampleRow] | None:
        """The rows of a run's samples, in the items' order; None where the benchmark was dropped."""
        path = self._path(run, benchmark)
        if path.exists():
            return list(read_rows(path, Sample))
        score = self.layout.score(run, self.split)
        if score.exists() and benchmark in read_stored(score, RunScores).get("benchmarks", {}):
            raise UserError("no such file", path=path, expected=f"the samples that {score} is of")
        return None

    def _path(self, run: Run, benchmark: str) -> Path:
        return self.layout.samples(run, self.split) / f"{benchmark}.jsonl"

    def _row(self, run: Run, benchmark: str) -> list[float] | None:
        items = self.items(run, benchmark)
        if items is None:
            return None
        ids = [row["id"] for row in items]
        if ids != self._ids.setdefault(benchmark, ids):
            path = self._path(run, benchmark)
            found = f"other items than in another run's {path.name}"
            raise UserError(path=path, found=found, expected="the same in order")
        return [share_right(row) for row in items]

    def retained_outcomes(self, runs: Runs, origin: Runs, benchmark: str) -> np.ndarray | None:
        """As `outcomes`, of the items that `origin`, one run, had right."""
        before, after = self.outcomes(origin, benchmark), self.outcomes(runs, benchmark)
        return None if before is None or after is None else after[:, before[0] >= RIGHT_BEFORE]

    def item_count(self, runs: Runs, benchmarks: Sequence[str]) -> int:
        """How many items `benchmarks` have together, without dropped ones."""
        outcomes = [self.outcomes(runs, name) for name in benchmarks]
        return sum(array.shape[1] for array in outcomes if array is not None)

    def mean(self, runs: Runs, benchmarks: Sequence[str]) -> float | None:
        """The mean in percent, macro over `benchmarks`; None where one of them was dropped or has no item."""
        return _mean([self.outcomes(runs, name) for name in benchmarks])

    def retained_mean(self, runs: Runs, origin: Runs, benchmarks: Sequence[str]) -> float | None:
        """As `mean`, of the items that `origin` had right."""
        return _mean([self.retained_outcomes(runs, origin, name) for name in benchmarks])

    def bootstrapped_mean(self, runs: Runs, benchmarks: Sequence[str]) -> Bootstrapped | None:
        """`mean` with its bootstrap means; None where one of the benchmarks was dropped or has no item."""
        return _both(self.mean(runs, benchmarks), self.draws(runs, benchmarks))

    def bootstrapped_retention(self, runs: Runs, origin: Runs, benchmarks: Sequence[str]) -> Bootstrapped | None:
        """`retained_mean` with its bootstrap means; None where there are none."""
        return _both(self.retained_mean(runs, origin, benchmarks), self.retained_draws(runs, origin, benchmarks))

    def difference(self, runs: Runs, base: Runs, benchmarks: Sequence[str]) -> Bootstrapped | None:
        """`runs` minus `base` in percent points, on the same bootstrap items; None where one of them has no score."""
        after, before = self.bootstrapped_mean(runs, benchmarks), self.bootstrapped_mean(base, benchmarks)
        return None if after is None or before is None else (after[0] - before[0], after[1] - before[1])

    def draws(self, runs: Runs, benchmarks: Sequence[str]) -> np.ndarray | None:
        """Bootstrap means in percent, (bootstrap_draws,), paired across runs; None where `mean` is None."""
        return self._average(lambda name: self.outcomes(runs, name), (tuple(runs), None), benchmarks)

    def retained_draws(self, runs: Runs, origin: Runs, benchmarks: Sequence[str]) -> np.ndarray | None:
        """As `draws`, of the items that `origin` had right; paired across runs of the same origin."""
        return self._average(
            lambda name: self.retained_outcomes(runs, origin, name), (tuple(runs), tuple(origin)), benchmarks
        )

    def _average(
        self, outcomes: Callable[[str], np.ndarray | None], key: tuple, benchmarks: Sequence[str]
    ) -> np.ndarray | None:
        names = list(dict.fromkeys(benchmarks))
        arrays = _whole([outcomes(name) for name in names])
        if arrays is None:
            return None
        scale = self.layout.scale
        for name, array in zip(names, arrays, strict=True):
            if (*key, name) not in self._bootstrap_means:
                self._bootstrap_means[(*key, name)] = bootstrap_means(
                    array, scale.bootstrap_draws, scale.bootstrap_seed, name
                )
        average: np.ndarray = 100 * np.mean([self._bootstrap_means[(*key, name)] for name in names], axis=0)
        return average


def _both(mean: float | None, draws: np.ndarray | None) -> Bootstrapped | None:
    return None if mean is None or draws is None else (mean, draws)


def _whole(outcomes: Sequence[np.ndarray | None]) -> list[np.ndarray] | None:
    """`outcomes`; None where there are none, or one is missing or has no item."""
    present = [array for array in outcomes if array is not None and array.size]
    return present if present and len(present) == len(outcomes) else None


def _mean(outcomes: Sequence[np.ndarray | None]) -> float | None:
    whole = _whole(outcomes)
    return None if whole is None else 100 * float(np.mean([array.mean(dtype=np.float64) for array in whole]))
