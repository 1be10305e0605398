"""A scale and how it is read: the one place that reads the YAML of `workflow/config`.

A replication is a matrix of runs. A run is (student, trainset, method, seed); trainset and method are named
entries that carry all their settings. Four scales differ in configuration only: micro, tiny, smol, paper.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from gdpo.benchmark_schema import Benchmark, Judge
from gdpo.compute_schema import Launch, Needs, Step
from gdpo.data_schema import Annotate, Decontaminate, Encoder, Merge, Proficiency, Selection, Source
from gdpo.errors import UserError, suggest
from gdpo.expected_schema import Expected
from gdpo.files import read_csv
from gdpo.records import Domain
from gdpo.schema import Method, Model, Name, Positive, Respond, Reward, Seeds, Strict, TrainSet, World, unsaid
from gdpo.table_schema import Cell, Study, Sweep, Table, Watch
from gdpo.yaml_file import first_problem, parsed

CONFIG = Path(__file__).resolve().parent.parent / "workflow" / "config"
DROPPABLE = ("tables", "studies", "benchmarks")  # entries that a scale sets to null it does not have
LIMITED_ROWS = 100  # ours: questions of a source of one's own under a limit, as smol's; more where the limit is more
Entry = TypeVar("Entry")
SHARED = ("tables", "studies", "claims", "figures", "sources")  # of all scales


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
    sources: dict[Name, Source] = Field(default_factory=dict)
    mirror: str | None = None  # a directory with a manifest that sources are read from, in place of the Hub
    decontaminate: Decontaminate = Decontaminate()
    encoder: Encoder | None = None
    annotate: Annotate = Annotate()
    merge: Merge = Merge()
    benchmarks: Annotated[dict[Name, Benchmark], Field(min_length=1)]
    eval_batch_size: Positive
    judge: Judge = Field(**unsaid(Judge()))
    threads: Positive = 1  # CPUs that a scheduler is asked for; what is computed there takes one (gdpo.threads)
    needs: dict[Step, Needs] = Field(default_factory=dict)
    launch: Launch = Launch()
    expected: Expected | None = None  # what `gdpo plan` takes for granted before anything is made
    # false: a trained run's weights are deleted once it is scored; its log and samples stay
    keep_weights: bool = Field(**unsaid(True))
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
    retained: Annotated[float, Field(ge=0, le=1)]
    limit: Positive | None = None
    limited: dict[str, Any] | None = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_resolve(self) -> Scale:
        if (self.world is None) == (not self.sources):
            raise ValueError("expected exactly one of 'world' and 'sources'")
        if self.world is None and (made := [n for n, model in self.models.items() if model.pretrain]):
            raise ValueError(f"models.{made[0]}.pretrain: found no 'world' to learn, expected a model by 'reference'")
        origins = self.world.skills if self.world else self.sources
        known: dict[str, tuple[Sequence[str], Collection[str]]] = {
            "students": (self.students, self.models),
            "proficiency.models": (self.proficiency.models, self.models),
            "respond.teacher": ([self.respond.teacher], self.models),
        }
        mixes = self.world.popularity if self.world else {}
        known |= {f"models.{n}.pretrain.mix": ([m.pretrain.mix], mixes) for n, m in self.models.items() if m.pretrain}
        tuned = {n: model.tuned for n, model in self.models.items() if model.tuned}
        known |= {f"models.{n}.tuned.base": ([t.base], self.models) for n, t in tuned.items()}
        known |= {f"models.{n}.tuned.sources": (t.sources, origins) for n, t in tuned.items()}
        known |= {f"benchmarks.{n}.source": ([b.source], origins) for n, b in self.benchmarks.items()}
        known |= {f"trainsets.{n}.parts": (t.parts, self.trainsets) for n, t in self.trainsets.items()}
        known |= {f"trainsets.{n}.respond.teacher": ([self.respond_of(n).teacher], self.models) for n in self.trainsets}
        known |= {f"student_sets.{n}": (names, self.models) for n, names in self.student_sets.items()}
        known |= {f"{n}.students": ([s.students], {"main", *self.student_sets}) for n, s in self.selections.items()}
        known |= {f"trainsets.{n}.sources": (t.sources, origins) for n, t in self.trainsets.items()}
        known["decontaminate.protect"] = (self.decontaminate.protect, origins)
        for name, cell in self._cells():
            known[f"{name}.trainset"] = ([cell.trainset], {"none", *self.trainsets})
            known[f"{name}.method"] = ([cell.method], {"origin", *self.methods})
            known[f"{name}.model"] = ([cell.model] if cell.model else [], self.models)
        for key, (names, options) in known.items():
            if unknown := [name for name in names if name not in options]:
                raise ValueError(f"{key}: found '{unknown[0]}'; {suggest(unknown[0], options)}")
        trained = {"students": self.students} | {f"student_sets.{n}": names for n, names in self.student_sets.items()}
        trained |= {f"{name}.model": [cell.model] for name, cell in self._cells() if cell.model}
        trained |= {f"models.{n}.tuned.base": [t.base] for n, t in tuned.items()}
        for key, names in trained.items():
            for name in names:
                if self.models[name].endpoint:
                    raise ValueError(f"{key}: found '{name}', asked at an endpoint; expected a model with weights")
        if not self.keep_weights and any(benchmark.validation_items for benchmark in self.benchmarks.values()):
            raise ValueError(
                "keep_weights: found false beside validation items, for which weights are needed; expected true"
            )
        for name, entry in tuned.items():
            if self.models[entry.base].tuned:
                raise ValueError(f"models.{name}.tuned.base: found '{entry.base}', itself tuned here; expected another")
        train = self.needs.get("train")
        if train and train.gpus and train.gpus != self.launch.processes:
            found = f"found {train.gpus} beside launch.processes: {self.launch.processes}"
            raise ValueError(f"needs.train.gpus: {found}; expected one GPU a process")
        self._parts_end()
        for key, listed in (("students", self.students), ("seeds", self.seeds), ("sweep.seeds", self.sweep.seeds)):
            if twice := [entry for i, entry in enumerate(listed) if entry in listed[:i]]:
                raise ValueError(f"{key}: found {twice[0]!r} a second time, expected each once")
        if self.encoder is None and "embedding" in (self.merge.backend, *self.merge.compare):
            raise ValueError("merge: backend embedding needs an 'encoder'")
        if self.encoder is None and self.annotate.backend == "taxonomy":
            raise ValueError("annotate: backend taxonomy needs an 'encoder'")
        if self.encoder is None and self.annotate.fallback == "taxonomy":
            raise ValueError("annotate: fallback taxonomy needs an 'encoder'")
        return self

    def _parts_end(self) -> None:
        """Raises ValueError where a training set is a part of itself, or of one of its parts."""
        for name, trainset in self.trainsets.items():
            below, seen = list(trainset.parts), set()
            while below:
                part = below.pop()
                if part == name:
                    raise ValueError(f"trainsets.{name}.parts: found a loop, expected parts that do not have '{name}'")
                below += [] if part in seen else self.trainsets[part].parts
                seen.add(part)

    def _cells(self) -> list[tuple[str, Cell]]:
        cells = [(key, cell) for key, selection in self.selections.items() for cell in selection.rows]
        return cells + [("sweep.extra", cell) for cell in self.sweep.extra]

    @property
    def name(self) -> str:
        """The directory under results/: the scale, and its limit where it has one."""
        return f"{self.scale}-limit{self.limit}" if self.limit else self.scale

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
        """How the teacher answers a training set: the scale's `respond`, with the set's own laid over it."""
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
        """Every column of a domain, the paper's first, then ours."""
        found = [name for name, benchmark in self.benchmarks.items() if benchmark.domain == domain]
        return sorted(found, key=lambda name: self.benchmarks[name].ours)


def _entry(entries: dict[str, Entry], name: str, key: str) -> Entry:
    if name not in entries:
        raise UserError(f"{key}: found '{name}'; {suggest(name, entries)}")
    return entries[name]


def _rate(method: str, rate: str) -> float:
    try:
        value = float(rate)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UserError(f"method: found '{method}', expected a learning rate above 0 behind the ~")
    return value


def sweep_file(scale: str) -> Path:
    """Where a scale's chosen learning rates are kept as data; written by `gdpo sweep`."""
    return CONFIG / "sweep" / f"{scale}.csv"


SweptCell = tuple[str, str, str]  # student, trainset, method


def swept(scale: str) -> dict[SweptCell, dict[float, float]]:
    """Each swept cell's mean validation score, percent, by learning rate; empty before any sweep."""
    path = sweep_file(scale)
    found: dict[SweptCell, dict[float, float]] = {}
    for row in read_csv(path) if path.exists() else []:
        cell = (row["student"], row["trainset"], row["method"])
        found.setdefault(cell, {})[float(row["learning_rate"])] = float(row["validation_mean"])
    return found


def best_rate(by_rate: dict[float, float]) -> float:
    """The rate with the best score; of equals the smallest."""
    return min(by_rate, key=lambda rate: (-by_rate[rate], rate))


def learning_rates(scale: str) -> dict[SweptCell, float]:
    """(student, trainset, method) -> the learning rate chosen on validation items; empty before any sweep."""
    return {cell: best_rate(by_rate) for cell, by_rate in swept(scale).items()}


def fingerprint(settings: Any) -> str:
    """A short hash of resolved settings: the key of caches and the config hash of provenance.

    What an entry is called in print (`display`) is no part of it: a new name must not train anything again. What
    shows names hashes `Scale.names` beside.
    """
    return hashlib.sha256(json.dumps(_plain(settings), sort_keys=True).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items() if key != "display"}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def read_yaml(path: Path) -> dict[str, Any]:
    try:
        value = parsed(path)
    except FileNotFoundError:
        known = [p.stem for p in CONFIG.glob("*.yaml") if p.stem not in SHARED]
        raise UserError(f"{path}: no such scale; {suggest(path.stem, known)}") from None
    if not isinstance(value, dict):
        found = "nothing" if value is None else type(value).__name__
        raise UserError(f"{path}: expected a mapping at the top, found {found}")
    return value


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, mapping by mapping; lists and scalars are replaced."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _limited(raw: dict[str, Any], limit: int, path: Path) -> dict[str, Any]:
    """`raw` with at most `limit` questions per training set and items per benchmark, and its own `limited` part.

    What is no number stays as it is, for the schema to name.
    """
    absent = {key: {n for n, e in _mapping(raw.get(key), path, key).items() if e is None} for key in DROPPABLE}
    raw = merge(raw, _mapping(raw.get("limited"), path, "limited"))
    for key, names in absent.items():
        raw[key] = {n: None if n in names else e for n, e in _mapping(raw.get(key), path, key).items()}
    for trainset in _mappings(raw, "trainsets"):
        _lower(trainset, "size", limit)
    for tuned in (model["tuned"] for model in _mappings(raw, "models") if isinstance(model.get("tuned"), dict)):
        _lower(tuned, "questions", limit)
    for benchmark in _mappings(raw, "benchmarks"):
        if benchmark.get("items") is None:
            benchmark["items"] = limit
        benchmark.setdefault("validation_items", 0)
        _lower(benchmark, "items", limit)
        _lower(benchmark, "validation_items", limit)
    return raw | {"limit": limit}


def _mappings(raw: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The entries below `key` that are mappings, as they should be."""
    entries = raw.get(key)
    return [entry for entry in entries.values() if isinstance(entry, dict)] if isinstance(entries, dict) else []


def _lower(entry: dict[str, Any], key: str, limit: int) -> None:
    if isinstance(entry.get(key), int):
        entry[key] = min(entry[key], limit)


def _extended(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The YAML at `path`, laid over what it extends: a scale's file beside it, or else one of ours."""
    place = Path(os.path.realpath(path))  # which, unlike Path.resolve, leaves a loop of links for the reader to name
    if place in above:
        raise UserError(f"{path}, extends: found a scale that extends itself")
    raw = read_yaml(path)
    if "extends" not in raw:
        return raw
    extends = raw.pop("extends")
    if not isinstance(extends, str) or not extends.isprintable():
        raise UserError(f"{path}, extends: expected the name of a scale, found {type(extends).__name__}")
    name = f"{extends}.yaml"
    beside = path.parent / name
    return merge(_extended(beside if os.path.exists(beside) else CONFIG / name, (*above, place)), raw)


def load_scale(name: str | Path, limit: int | None = None) -> Scale:
    """The scale called `name`, or the scale file at path `name`.

    A scale file may extend another, one beside it or one of ours (`extends: tiny`). Tables and studies are those of
    tables.yaml and studies.yaml with the scale's own laid over them. A table, study or benchmark that is null the scale
    does not have. A source that it names is what sources.yaml says of it, with the scale's own entry laid over it.
    Raises UserError naming file and key where the file is missing or does not fit.
    """
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else CONFIG / f"{name}.yaml"
    raw = _extended(path)
    if limit is not None:
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:  # Snakemake passes on what --config has
            raise UserError(f"limit: expected a whole number above 0, found {limit}")
        raw = _limited(raw, limit, path)
    for key in ("tables", "studies"):
        raw[key] = merge(read_yaml(CONFIG / f"{key}.yaml"), _mapping(raw.get(key), path, key))
    for key in DROPPABLE:
        raw[key] = {name: entry for name, entry in _mapping(raw.get(key), path, key).items() if entry is not None}
    if raw.get("sources"):
        catalogue = read_yaml(CONFIG / "sources.yaml")["sources"]
        entries = _mapping(raw["sources"], path, "sources")
        entries = {n: _mapping(entry, path, f"sources.{n}") for n, entry in entries.items()}
        raw["sources"] = {n: merge(catalogue.get(n, {}), entry) for n, entry in entries.items()}
        for name in raw["sources"].keys() - catalogue.keys() if limit is not None else ():
            raw["sources"][name].setdefault("rows", max(limit or 0, LIMITED_ROWS))
            _lower(raw["sources"][name], "rows", max(limit or 0, LIMITED_ROWS))
    try:
        return Scale.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{path}, {first_problem(error, Scale)}") from None


def _mapping(value: Any, path: Path, key: str) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise UserError(f"{path}, {key}: expected a mapping, found {type(value).__name__}")
    return value or {}
