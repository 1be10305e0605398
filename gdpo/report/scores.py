"""Scores, differences and retention of runs, in percent, from the items' verdicts.

Score: share of items right, of an item that was sampled several times the share of its samples. Retention: of the
items that the untrained student had right, the share that the trained one still has right. Averages over benchmarks
are macro, as in the paper. Every file is read and every redraw made once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gdpo.errors import UserError
from gdpo.files import read_jsonl
from gdpo.layout import Layout, Run, Split
from gdpo.report.bootstrap import redraw
from gdpo.samples import RIGHT_BEFORE, Row, share_right

Runs = Sequence[Run]


class Scores:
    """The outcomes behind a scale's cells. `runs` are one cell's runs, one a seed."""

    def __init__(self, layout: Layout, split: Split = "test"):
        self.layout = layout
        self.split = split
        self._ids: dict[str, list[str]] = {}
        self._outcomes: dict[tuple, np.ndarray | None] = {}
        self._redrawn: dict[tuple, np.ndarray] = {}

    def outcomes(self, runs: Runs, benchmark: str) -> np.ndarray | None:
        """The share of each item's samples that are right, (seeds, items): 0 or 1 where it was asked once.

        None where the column was dropped for one of the runs. Raises UserError where two runs were scored on different
        items: nothing could be paired.
        """
        key = (tuple(runs), benchmark)
        if key not in self._outcomes:
            rows = [self._row(run, benchmark) for run in runs]
            complete = bool(rows) and all(row is not None for row in rows)
            self._outcomes[key] = np.array(rows, dtype=np.float32) if complete else None
        return self._outcomes[key]

    def items(self, run: Run, benchmark: str) -> list[Row] | None:
        """The rows of a run's samples, in the items' order; None where the column was dropped."""
        path = self._path(run, benchmark)
        return [row for _, row in read_jsonl(path)] if path.exists() else None

    def _path(self, run: Run, benchmark: str) -> Path:
        return self.layout.samples(run, self.split) / f"{benchmark}.jsonl"

    def _row(self, run: Run, benchmark: str) -> list[float] | None:
        items = self.items(run, benchmark)
        if items is None:
            return None
        ids = [row["id"] for row in items]
        if ids != self._ids.setdefault(benchmark, ids):
            path = self._path(run, benchmark)
            raise UserError(f"{path}: found other items than in another run's {path.name}, expected the same in order")
        return [share_right(row) for row in items]

    def retained(self, runs: Runs, origin: Runs, benchmark: str) -> np.ndarray | None:
        """As `outcomes`, of the items alone that `origin`, one run, had right."""
        before, after = self.outcomes(origin, benchmark), self.outcomes(runs, benchmark)
        return None if before is None or after is None else after[:, before[0] >= RIGHT_BEFORE]

    def mean(self, runs: Runs, benchmarks: Sequence[str]) -> float | None:
        """Percent, macro over `benchmarks`; None where one of them was dropped or has no item."""
        return _mean([self.outcomes(runs, name) for name in benchmarks])

    def retained_mean(self, runs: Runs, origin: Runs, benchmarks: Sequence[str]) -> float | None:
        """As `mean`, of the items that `origin` had right."""
        return _mean([self.retained(runs, origin, name) for name in benchmarks])

    def draws(self, runs: Runs, benchmarks: Sequence[str]) -> np.ndarray | None:
        """Redrawn means in percent, (bootstrap_draws,), paired across runs; None where `mean` is."""
        return self._average(lambda name: self.outcomes(runs, name), (tuple(runs), None), benchmarks)

    def retained_draws(self, runs: Runs, origin: Runs, benchmarks: Sequence[str]) -> np.ndarray | None:
        """As `draws`, of the items that `origin` had right; paired across runs of the same origin."""
        return self._average(lambda name: self.retained(runs, origin, name), (tuple(runs), tuple(origin)), benchmarks)

    def difference(self, runs: Runs, base: Runs, benchmarks: Sequence[str]) -> np.ndarray | None:
        """Redrawn differences `runs` minus `base` in percent points, (bootstrap_draws,), on the same redrawn items."""
        after, before = self.draws(runs, benchmarks), self.draws(base, benchmarks)
        return None if after is None or before is None else after - before

    def _average(
        self, outcomes: Callable[[str], np.ndarray | None], key: tuple, benchmarks: Sequence[str]
    ) -> np.ndarray | None:
        found = {name: outcomes(name) for name in benchmarks}
        if not found or any(array is None or not array.size for array in found.values()):
            return None
        scale = self.layout.scale
        for name, array in found.items():
            if (*key, name) not in self._redrawn:
                self._redrawn[(*key, name)] = redraw(array, scale.bootstrap_draws, scale.bootstrap_seed, name)
        return 100 * np.mean([self._redrawn[(*key, name)] for name in found], axis=0)


def _mean(found: list[np.ndarray | None]) -> float | None:
    if not found or any(array is None or not array.size for array in found):
        return None
    return 100 * float(np.mean([array.mean(dtype=np.float64) for array in found]))
