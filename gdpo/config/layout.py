"""The path of each file of a scale, for the workflow's rules and the `gdpo` command alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gdpo.config.learning_rates import best_rate, swept
from gdpo.config.scale import Scale
from gdpo.config.tables import Cell, Study, Table
from gdpo.core.provenance import provenance_path
from gdpo.core.result_files import Provenance, read_stored

Split = Literal["test", "validation"]

# A step's number is raised when its meaning changes, so that finished results of the old meaning are made again.
VERSION = {
    "model": 1, "benchmark": 1, "sources": 3, "decontaminate": 3, "annotate": 2, "quality": 1, "merge": 1,
    "answer": 3, "proficiency": 1, "select": 1, "card": 1, "export": 1,
    "respond": 1, "reward": 2, "import": 6, "part": 1, "train": 3, "noise": 1, "evaluate": 2, "drift": 1, "judge": 2,
    "table": 2, "figure": 2, "claims": 1, "cost": 1, "numbers": 1, "audit": 1, "power": 1, "published": 1,
    "runs": 1, "reproduced": 1, "world": 1,
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


def origin(student: str) -> list[Run]:
    """The untrained student, or a finished model, as a cell's runs."""
    return [Run(student, "none", "origin", 0)]


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
    def heldout_items(self) -> Path:
        """Every item that may not be trained on, with the benchmark or protected source that it is of."""
        return self.root / "guarded.jsonl"

    @property
    def decontaminated(self) -> Path:
        """The pool without what a benchmark asks."""
        return self.root / "decontaminated.jsonl"

    @property
    def contamination(self) -> Path:
        """How many questions of each source each benchmark asks."""
        return self.root / "contamination.csv"

    @property
    def contaminated(self) -> Path:
        """The pool's questions that were dropped, each with the benchmark items it matches."""
        return self.root / "contaminated.jsonl"

    @property
    def spared(self) -> Path:
        """The pool's questions that share a run of words with a benchmark item and were kept, and why."""
        return self.root / "spared.jsonl"

    @property
    def frequencies(self) -> Path:
        """How many texts of the pool and the benchmarks hold a word, and the phrases that are boilerplate."""
        return self.root / "word_frequencies.json"

    @property
    def skills(self) -> Path:
        return self.root / "skills.jsonl"

    @property
    def annotated(self) -> Path:
        return self.root / "annotated.jsonl"

    @property
    def units(self) -> Path:
        return self.root / "units.json"

    @property
    def agreement(self) -> Path:
        """How far the backends that merged agree; empty where only one ran."""
        return self.root / "merge_agreement.csv"

    @property
    def quality(self) -> Path:
        """How often a question's skills hold the topic that its source names and the annotator was not told."""
        return self.root / "annotation_quality.csv"

    def card(self, trainset: str) -> Path:
        return self.root / f"{trainset}_card.md"

    def export(self, trainset: str) -> Path:
        """A training set as a Hugging Face data set directory."""
        return self.root / "export" / trainset

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

    def endpoint(self, model: str) -> Path:
        """All requests to a model at an endpoint, of any step, and its answers: no request is paid for twice."""
        return self.work / "endpoints" / f"{model}.jsonl"

    def answers(self, model: str) -> Path:
        """What a base model answered to the pool."""
        return self.root / "proficiency" / f"{model}.jsonl"

    def model(self, name: str) -> Path:
        return self.root / "models" / name

    def pretrained(self, name: str) -> Path:
        """A shipped base model, pretrained anew to be compared with it."""
        return self.root / "pretrained" / name

    @property
    def bases(self) -> Path:
        """How base models that were pretrained anew differ from the shipped ones."""
        return self.root / "bases.csv"

    def weights_key(self, name: str) -> list[Any]:
        """All that a model's samples depend on beside the prompt, for names of caches.

        That is what its weights depend on, of a tuned one also what it was tuned on, and its engine.
        """
        settings = [*self.scale.model_settings(name), *self.scale.sampled_by(name)]
        if not self.scale.model(name).tuned:
            return settings
        return [*settings, read_stored(provenance_path(self.model(name)), Provenance)["config_hash"]]

    def checkpoint(self, name: str) -> list[Path]:
        """The directory of a model that is used, as a rule's input; a model at an endpoint has none to make."""
        return [] if self.scale.model(name).endpoint else [self.model(name)]

    def trainset(self, name: str) -> Path:
        return self.root / "trainsets" / f"{name}.jsonl"

    def responses(self, trainset: str) -> Path:
        return self.root / "responses" / f"{trainset}.jsonl"

    def groups(self, trainset: str) -> Path:
        return self.root / "groups" / f"{trainset}.jsonl"

    def benchmark(self, name: str, split: Split) -> Path:
        return self.root / "benchmarks" / split / f"{name}.jsonl"

    def unavailable(self) -> dict[str, str]:
        """Benchmark -> why its items cannot be had here; its column stays empty and is in no average."""
        reasons = {}
        for name in self.scale.benchmarks:
            path = provenance_path(self.benchmark(name, "test"))
            record = read_stored(path, Provenance) if path.exists() else {}
            if "unavailable" in record:
                reasons[name] = record["unavailable"]
        return reasons

    @property
    def judged(self) -> Path:
        """How many answers that are known to be safe, or to be no refusal, the judges take for safe."""
        return self.root / "judge.csv"

    @property
    def runs(self) -> Path:
        """What every run of the matrix took."""
        return self.root / "runs.csv"

    @property
    def reproduced(self) -> Path:
        """The paper's numbers beside the reproduced ones, cell by cell; of these, command, hardware and time."""
        return self.root / "reproduced.csv"

    def run(self, run: Run) -> Path:
        """The model directory of a run; the base model's own for the origin."""
        return self.model(run.student) if run.is_origin else self.root / "runs" / run.path

    def samples(self, run: Run, split: Split) -> Path:
        return self._scored(split) / "samples" / run.path

    def score(self, run: Run, split: Split) -> Path:
        return self._scored(split) / "scores" / run.path.with_name(f"{run.seed}.json")

    def table(self, name: str) -> Path:
        return self.root / "tables" / f"{name}.csv"

    def figure(self, name: str) -> Path:
        """The numbers that a figure shows; its pictures are in the same directory."""
        return self.root / "figures" / f"{name}.csv"

    def noise(self, student: str, trainset: str, method: str) -> Path:
        """How much a method's gradient differs between mini-batches."""
        return self.root / "noise" / student / trainset / f"{method}.json"

    def drift(self, run: Run) -> Path:
        """How far a run's policy has moved from its reference, on validation items."""
        return self.root / "validation" / "drift" / run.path.with_name(f"{run.seed}.json")

    def measures(self, run: Run, split: Split) -> Path:
        """What was measured of a run besides its scores (gdpo.evaluate.measures)."""
        return self._scored(split) / "measures" / run.path.with_name(f"{run.seed}.json")

    def scored(self, runs: Iterable[Run], split: Split = "test") -> list[Path]:
        """The score and the samples of each run, each once."""
        return [path for run in dict.fromkeys(runs) for path in (self.score(run, split), self.samples(run, split))]

    def _scored(self, split: Split) -> Path:
        return self.root if split == "test" else self.root / "validation"

    def cell_runs(self, student: str, cell: Cell) -> list[Run]:
        """The runs behind one row for one student: one a seed, one alone for the origin or a finished model."""
        if cell.model or cell.method == "origin":
            return origin(cell.model or student)
        return [Run(student, cell.trainset, cell.method, seed) for seed in self.scale.seeds]

    def selected_runs(self, selection: Table | Study) -> list[Run]:
        """Every run that a table or study reads, each once; a study over the grid has each at every rate."""
        students = self.scale.student_set(selection.students)
        if isinstance(selection, Study) and selection.grid:
            return [run for s in students for cell in selection.rows for run in self.grid_runs(s, cell)]
        return list(dict.fromkeys(run for s in students for cell in selection.rows for run in self.cell_runs(s, cell)))

    def teacher_runs(self) -> list[Run]:
        """The teacher as a run that is scored; a teacher at an endpoint is not scored."""
        teacher = self.scale.respond.teacher
        return origin(teacher) if self.checkpoint(teacher) else []

    def sweep_methods(self, method: str) -> list[str]:
        """`method` at each rate of its grid."""
        return [f"{method}~{rate:g}" for rate in self.scale.sweep.rates(method)]

    def extended_methods(self, method: str) -> list[str]:
        """`method` at the rates above the grid."""
        return [f"{method}~{rate:g}" for rate in self.scale.sweep.extended_rates]

    def watched_cells(self) -> list[tuple[str, Cell]]:
        """(student, cell) of every table of kind comparison: runs that are looked at while they are trained."""
        compared = [table for table in self.scale.tables.values() if table.kind == "comparison"]
        return [(s, cell) for table in compared for s in self.scale.student_set(table.students) for cell in table.rows]

    def is_online(self, of: Run | Cell) -> bool:
        """Whether the student samples what it learns from; else a teacher has."""
        return self.scale.methods[of.method.partition("~")[0]].trainer == "grpo"

    def response_file(self, of: Run | Cell) -> Path | None:
        """The teacher's responses that a trained run learns from: of a part, the whole set's.

        None where the student samples itself, and where the groups were imported or are gold responses.
        """
        name = of.trainset
        while self.scale.trainset(name).derived:
            if not self.scale.trainset(name).parts:
                return None
            name = self.scale.trainset(name).parts[0]
        imported = self.scale.trainset(name).select == "import"
        return None if imported or self.is_online(of) else self.responses(name)

    def is_watched(self, run: Run) -> bool:
        return run.seed in self.scale.seeds and any(run in self.cell_runs(s, c) for s, c in self.watched_cells())

    def grid_runs(self, student: str, cell: Cell) -> list[Run]:
        """A cell at each rate of the grid, over the sweep's seeds."""
        methods = self.sweep_methods(cell.method)
        return [Run(student, cell.trainset, method, seed) for method in methods for seed in self.scale.sweep.seeds]

    def trial_runs(self) -> list[Run]:
        """Every run of the trial in this world, each once."""
        trial = self.scale.trial
        rows = [run for cell in trial.rows for run in self.grid_runs(trial.student, cell)] if trial else []
        return list(dict.fromkeys(rows))

    @property
    def packed_world(self) -> Path:
        """This world's runs as the trial keeps them (gdpo.report.trial.packing)."""
        return self.root / "world"

    def sweep_runs(self) -> list[Run]:
        """Every (student, trainset, method) that a table, a study or `sweep.extra` names, at each rate of the grid.

        Those that are recorded already are left out, so that a new method or student is swept alone; but where the
        best that is recorded is the grid's largest, the extended rates remain to be tried.
        """
        selected = self.scale.selections.values()
        cells = [(s, c) for x in selected for s in self.scale.student_set(x.students) for c in x.rows]
        cells += [(student, cell) for student in self.scale.students for cell in self.scale.sweep.extra]
        trained = [(s, c) for s, c in cells if c.method != "origin" and not c.model]
        recorded, sweep = swept(self.scale.scale), self.scale.sweep
        runs = []
        for student, cell in trained:
            by_rate = recorded.get((student, cell.trainset, cell.method))
            if by_rate is None:
                runs += self.grid_runs(student, cell)
            elif best_rate(by_rate) == max(sweep.learning_rates) and not by_rate.keys() & set(sweep.extended_rates):
                methods = self.extended_methods(cell.method)
                runs += [Run(student, cell.trainset, m, seed) for m in methods for seed in sweep.seeds]
        return list(dict.fromkeys(runs))
