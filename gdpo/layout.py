"""Where each file of a scale lies: the one place that the workflow's rules and the `gdpo` command share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gdpo.config import Scale

Split = Literal["test", "validation"]

# Raised when a step's meaning changes, so that finished results of the old meaning are made again.
VERSION = {
    "model": 1, "benchmark": 1, "pool": 1, "annotate": 1, "answer": 1, "proficiency": 1, "select": 1,
    "respond": 1, "reward": 1, "import": 1, "train": 2, "evaluate": 1, "table": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One run of the matrix. The untrained student is the run (student, none, origin, 0)."""

    student: str
    trainset: str
    method: str
    seed: int

    @property
    def is_origin(self) -> bool:
        return self.method == "origin"

    @property
    def path(self) -> Path:
        return Path(self.student) / self.trainset / self.method / str(self.seed)

    def __str__(self) -> str:
        return self.path.as_posix()


@dataclass(frozen=True)
class Layout:
    """The paths of a scale, all under results/<scale>/."""

    scale: Scale

    @property
    def root(self) -> Path:
        return self.scale.root

    @property
    def pool(self) -> Path:
        return self.root / "pool.jsonl"

    @property
    def annotated(self) -> Path:
        return self.root / "annotated.jsonl"

    @property
    def units(self) -> Path:
        return self.root / "units.json"

    @property
    def proficiency(self) -> Path:
        return self.root / "proficiency.csv"

    @property
    def unit_proficiency(self) -> Path:
        return self.root / "unit_proficiency.csv"

    @property
    def work(self) -> Path:
        """Undeclared to the workflow: what must survive a killed job, keyed by the hash of its settings."""
        return self.root / "work"

    def answers(self, model: str) -> Path:
        """What a base model answered to the pool."""
        return self.root / "proficiency" / f"{model}.jsonl"

    def model(self, name: str) -> Path:
        return self.root / "models" / name

    def trainset(self, name: str) -> Path:
        return self.root / "trainsets" / f"{name}.jsonl"

    def responses(self, trainset: str) -> Path:
        return self.root / "responses" / f"{trainset}.jsonl"

    def groups(self, trainset: str) -> Path:
        return self.root / "groups" / f"{trainset}.jsonl"

    def benchmark(self, name: str, split: Split) -> Path:
        return self.root / "benchmarks" / split / f"{name}.jsonl"

    def run(self, run: Run) -> Path:
        """The model directory of a run; the base model's own for the origin."""
        return self.model(run.student) if run.is_origin else self.root / "runs" / run.path

    def samples(self, run: Run, split: Split) -> Path:
        return self._scored(split) / "samples" / run.path

    def score(self, run: Run, split: Split) -> Path:
        return self._scored(split) / "scores" / run.path.with_name(f"{run.seed}.json")

    def table(self, name: str) -> Path:
        return self.root / "tables" / f"{name}.csv"

    def _scored(self, split: Split) -> Path:
        return self.root if split == "test" else self.root / "validation"

    def table_runs(self, table: str, student: str, cell_index: int) -> list[Run]:
        """The runs behind one row of a table for one student: one a seed, one alone for the origin."""
        cell = self.scale.tables[table].rows[cell_index]
        seeds = [0] if cell.method == "origin" else self.scale.seeds
        return [Run(student, cell.trainset, cell.method, seed) for seed in seeds]

    def all_table_runs(self, table: str) -> list[Run]:
        rows = range(len(self.scale.tables[table].rows))
        return [run for s in self.scale.students for i in rows for run in self.table_runs(table, s, i)]

    def teacher_run(self) -> Run:
        return Run(self.scale.respond.teacher, "none", "origin", 0)

    def sweep_methods(self, method: str) -> list[str]:
        """`method` at each rate of the one grid."""
        return [f"{method}~{rate:g}" for rate in self.scale.sweep.learning_rates]

    def sweep_runs(self) -> list[Run]:
        """Every (student, trainset, method) that a table or `sweep.extra` names, at each rate of the grid."""
        cells = [c for t in self.scale.tables.values() for c in t.rows if c.method != "origin"]
        named = dict.fromkeys((c.trainset, c.method) for c in [*cells, *self.scale.sweep.extra])
        return [
            Run(student, trainset, at_rate, seed)
            for student in self.scale.students
            for trainset, method in named
            for at_rate in self.sweep_methods(method)
            for seed in self.scale.sweep.seeds
        ]
