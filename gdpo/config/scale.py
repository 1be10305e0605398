"""A scale: everything that one file of `workflow/config` fixes, and what follows from it.

A replication is a matrix of runs. A run is (student, trainset, method, seed); trainset and method are named
entries that carry all their settings. Four scales differ in configuration only: micro, tiny, smol, paper.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, model_validator

from gdpo.config.benchmarks import Benchmark, Judge, Measured, Role
from gdpo.config.data import Annotate, Decontaminate, Encoder, Merge, Proficiency, Selection, Source
from gdpo.config.estimates import Expected
from gdpo.config.fields import Name, Positive, Seeds
from gdpo.config.figures import Figures
from gdpo.config.learning_rates import learning_rates
from gdpo.config.models import Method, Model, Respond, Reward, TrainSet, World
from gdpo.config.resources import Launch, Needs, Step
from gdpo.config.strict import Strict, omit_if_default
from gdpo.config.tables import Cell, Study, Sweep, Table, Trial, Watch
from gdpo.config.validation import check
from gdpo.config.worlds import Worlds
from gdpo.core.errors import UserError, suggest
from gdpo.core.records import Domain

Entry = TypeVar("Entry")


class Scale(Strict):
    """Everything that a scale fixes."""

    scale: Name
    description: str
    seeds: Seeds
    bootstrap_seed: int
    bootstrap_draws: Positive
    models: dict[Name, Model]
    students: Annotated[list[Name], Field(min_length=1)]
    student_sets: dict[Name, list[Name]] = Field(default_factory=dict)
    world: World | None = None
    worlds: Worlds | None = Field(**omit_if_default(None))  # where a seed draws a world, which seeds there are
    sources: dict[Name, Source] = Field(default_factory=dict)
    mirror: str | None = None  # a directory with a manifest that sources are read from, in place of the Hub
    decontaminate: Decontaminate = Decontaminate()
    encoder: Encoder | None = None
    annotate: Annotate = Annotate()
    merge: Merge = Merge()
    benchmarks: Annotated[dict[Name, Benchmark], Field(min_length=1)]
    eval_batch_size: Positive
    judge: Judge = Field(**omit_if_default(Judge()))
    measures: Measured | None = Field(**omit_if_default(None))  # of every scored run; absent, none
    threads: Positive = (
        1  # CPUs that a scheduler is asked for; what is computed there takes one (gdpo.runtime.single_thread)
    )
    needs: dict[Step, Needs] = Field(default_factory=dict)
    launch: Launch = Launch()
    expected: Expected | None = None  # what `gdpo plan` takes for granted before anything is made
    # false: a trained run's weights are deleted once it is scored; its log and samples stay
    keep_weights: bool = Field(**omit_if_default(True))
    proficiency: Proficiency
    selection: Selection
    trainsets: dict[Name, TrainSet]
    respond: Respond
    reward: Reward
    watch: Watch
    methods: dict[Name, Method]
    sweep: Sweep
    tables: dict[Name, Table]
    studies: dict[Name, Study] = Field(default_factory=dict)
    trial: Trial | None = Field(**omit_if_default(None))  # what runs in each of several worlds
    figures: Figures = Field(**omit_if_default({}))  # beside those of figures.yaml
    mastered_threshold: Annotated[float, Field(ge=0, le=1)]
    limit: Positive | None = None
    limited: dict[str, Any] | None = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Scale:
        check(self)
        return self

    def cells(self) -> list[tuple[str, Cell]]:
        """Every row of a table, a study and the sweep, with its key."""
        rows = {f"{key}.rows": selection.rows for key, selection in self.selections.items()}
        rows["sweep.extra"] = self.sweep.extra
        if self.trial:
            rows["trial.rows"] = self.trial.rows
        return [(f"{key}.{number}", cell) for key, cells in rows.items() for number, cell in enumerate(cells)]

    @property
    def name(self) -> str:
        """The directory under results/: the scale, its limit where it has one, and its world where it has several."""
        name = f"{self.scale}-limit{self.limit}" if self.limit else self.scale
        return f"{name}/world-{self.world.seed}" if self.worlds and self.world else name

    def model_settings(self, name: str) -> list[Any]:
        """All that a base model's weights depend on: of the world, what its own mix draws and how.

        Of a directory with a known hash, that hash alone: how it was made, or where it is, changes nothing.
        """
        model = self.model(name).model_copy(update={"engine": "hf"})  # whatever samples it
        if model.shipped:
            return [model.model_copy(update={"pretrain": None, "reference": f"sha256={model.shipped[1]}"})]
        if model.tuned:
            return [model, self.model_settings(model.tuned.base)]
        if not (model.pretrain and self.world):
            return [model]
        return [model, *self.pretrain_settings(name)[1:]]

    def pretrain_settings(self, name: str) -> list[Any]:
        """What a pretrained model's weights depend on: its `pretrain`, and of the world what its mix draws and how."""
        pretrain, world = self.model(name).pretrain, self.world
        assert pretrain is not None and world is not None  # what is pretrained here learns its world
        shares = {skill: entry.mix.get(pretrain.mix, 0.0) for skill, entry in world.skills.items()}
        popularity = world.popularity.get(pretrain.mix)
        return [pretrain, world.model_dump(exclude={"skills", "popularity"}), shares, popularity]

    def sampled_by(self, name: str) -> list[str]:
        """The engine that a model's samples come from; of transformers, which others joined later, nothing."""
        engine = self.model(name).engine
        return [] if engine == "hf" else [engine]

    @property
    def root(self) -> Path:
        return Path("results") / self.name

    @property
    def uses_gpus(self) -> bool:
        return any(needs.gpus for needs in self.needs.values())

    @property
    def names(self) -> list[dict[str, str]]:
        """What models, training sets, methods and benchmarks are called in print."""
        shown = (self.models, self.trainsets, self.methods, self.benchmarks)
        return [{name: entry.display for name, entry in entries.items()} for entries in shown]

    @property
    def needed_encoder(self) -> Encoder:
        """That of backends taxonomy and embedding, which have one."""
        assert self.encoder is not None
        return self.encoder

    @property
    def selections(self) -> dict[str, Table | Study]:
        """Every table and study, by its key."""
        tables: dict[str, Table | Study] = {f"tables.{n}": table for n, table in self.tables.items()}
        return tables | {f"studies.{n}": study for n, study in self.studies.items()}

    def table(self, name: str) -> Table:
        return _entry(self.tables, name, "tables")

    def student_set(self, name: str) -> list[str]:
        """The students that a table or study is about; `main` are those of tables 1 and 2."""
        return self.students if name == "main" else self.student_sets[name]

    def trainset(self, name: str) -> TrainSet:
        return _entry(self.trainsets, name, "trainsets")

    def respond_of(self, trainset: str) -> Respond:
        """How the teacher answers a training set: the scale's `respond`, with the set's own changes."""
        changes = self.trainset(trainset).respond
        return self.respond.model_copy(update=changes.model_dump(exclude_none=True)) if changes else self.respond

    def model(self, name: str) -> Model:
        return _entry(self.models, name, "models")

    def benchmark(self, name: str) -> Benchmark:
        return _entry(self.benchmarks, name, "benchmarks")

    def method(self, name: str, student: str, trainset: str) -> Method:
        """The settings of a run. `NAME~LR` is NAME at learning rate LR; else a swept rate replaces NAME's own."""
        base, _, rate = name.partition("~")
        method = _entry(self.methods, base, "methods")
        if rate:
            return method.model_copy(update={"learning_rate": _rate(name, rate)})
        swept = learning_rates(self.scale).get((student, trainset, base))
        return method.model_copy(update={"learning_rate": swept}) if swept else method

    def domain_benchmarks(self, domain: Domain) -> list[str]:
        """Every taught column of a domain, first the paper's, then those that this project adds."""
        taught = self.role_benchmarks("taught")
        names = [name for name in taught if self.benchmarks[name].domain == domain]
        return sorted(names, key=lambda name: self.benchmarks[name].ours)

    def role_benchmarks(self, role: Role) -> list[str]:
        """The benchmarks of a role, in the configuration's order."""
        return [name for name, benchmark in self.benchmarks.items() if benchmark.role == role]


def _entry(entries: dict[str, Entry], name: str, key: str) -> Entry:
    if name not in entries:
        raise UserError(key=key, found=f"'{name}'", hint=suggest(name, entries))
    return entries[name]


def _rate(method: str, rate: str) -> float:
    try:
        value = float(rate)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UserError(key="method", found=f"'{method}'", expected="a learning rate above 0 behind the ~")
    return value
