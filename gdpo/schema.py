"""The parts of a scale as typed models: what each entry of `workflow/config/*.yaml` may hold.

Unknown keys are refused, so that a misspelt one is never silently ignored.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gdpo.records import Domain, Grader

NAME = r"^[A-Za-z0-9][A-Za-z0-9.+_-]*$"
Name = Annotated[str, Field(pattern=NAME)]
Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
GroupSize = Annotated[int, Field(ge=2)]


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
    thoughts: bool = True  # whether the worked responses that it learns from show their thinking


class Model(Strict):
    """A student or teacher: pretrained here (`pretrain`) or named by `reference`.

    `reference` is `hub:OWNER/NAME@REVISION`, `dir:PATH`, or `wheel:PACKAGE==VERSION#sha256=HEX`.
    """

    display: str
    pretrain: Pretrain | None = None
    reference: (
        Annotated[str, Field(pattern=r"^(hub:\S+/\S+@\S+|dir:.+|wheel:\S+==\S+#sha256=[0-9a-f]{64})$")] | None
    ) = None
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"

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
    group_size: GroupSize
    temperature: Rate
    top_p: Share
    max_new_tokens: Positive
    batch_size: Positive
    gold: bool
    seed: int


class RespondChanges(Strict):
    """What one training set has otherwise than the scale's `respond`; what is unset stays."""

    teacher: Name | None = None
    group_size: GroupSize | None = None
    temperature: Rate | None = None
    top_p: Share | None = None
    max_new_tokens: Positive | None = None
    batch_size: Positive | None = None
    gold: bool | None = None
    seed: int | None = None


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

    `select: part` takes what the one set of `parts` has of `domain` (absent: of every domain), at most `size`
    questions, smaller parts of one set within larger ones, with the groups that the whole set has: nothing is
    asked twice. `select: import` takes finished groups from the file `path` (in the mirror, if it is not found as it
    stands). `respond` changes how the teacher answers this set; it is no part of the set's own settings, since the same
    questions are chosen whoever answers them.
    """

    display: str
    select: Literal["metakl", "hardest", "domain", "union", "part", "import"]
    size: Positive
    domain: Domain | None = None
    grader: Grader | None = None
    parts: list[Name] = []
    sources: list[Name] = []
    path: str | None = None
    format: Literal["groups", "gsm8k-model-solutions"] = "groups"
    respond: Annotated[RespondChanges | None, Field(exclude=True)] = None

    @model_validator(mode="after")
    def _imported(self) -> TrainSet:
        if (self.select == "import") != (self.path is not None):
            raise ValueError("'path' belongs to select: import, and only there")
        if self.select == "import" and self.domain is None:
            raise ValueError("select: import needs a 'domain'")
        if self.select in ("import", "part") and self.respond is not None:
            raise ValueError(f"'respond' belongs to sets that a teacher answers, found it at select: {self.select}")
        if self.select == "part" and len(self.parts) != 1:
            raise ValueError(f"select: part needs one set in 'parts', found {len(self.parts)}")
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
    advantage: Literal["literal", "unweighted", "shifted", "reciprocal", "gap"]
    length: Literal["sum", "mean"]


class Forward(Strict):
    """How trainer gdpo computes; names and defaults are GDPOConfig's. A result changes by rounding alone."""

    max_forward_tokens: Positive | None = None
    max_activation_tokens: Positive | None = None
    max_logits: Positive | None = None
    bucket_by_length: bool | None = None
    share_prompts: Literal["auto", "always", "never"] | None = None
    precompute_ref_log_probs: bool | None = None


class Method(Strict):
    """How a student is trained. `batch_size` counts questions for dpo, grpo and gdpo, sequences for sft.

    `group_size` is how many rollouts trainer grpo samples a question, and how many of a group's completions, the
    first so many, the other trainers see; absent: as many as the groups have.

    A step takes `batch_size` of them, whatever the processes; at most `micro_batch_size` at once in each.
    """

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
    forward: Forward | None = None
    group_size: GroupSize | None = None
    completions: Positive = 1
    lora: Lora | None = None
    max_grad_norm: Rate = 1.0

    @model_validator(mode="after")
    def _complete(self) -> Method:
        if (self.trainer == "gdpo") != (self.objective is not None):
            raise ValueError("'objective' belongs to trainer gdpo, and only there")
        if self.forward is not None and self.trainer != "gdpo":
            raise ValueError("'forward' belongs to trainer gdpo")
        if (self.trainer in ("dpo", "grpo")) != (self.beta is not None):
            raise ValueError("'beta' belongs to trainers dpo and grpo, and only there")
        return self


class Cell(Strict):
    """A row of a table for every student: the run it shows, or, in a run's place, a finished `model` as it is."""

    row: str
    trainset: Name = "none"
    method: Name = "origin"
    model: Name | None = None


class Table(Strict):
    """A table of the paper: scores of a selection of runs, or what `kind` says it is instead.

    `students` names one of the scale's student sets (`main`: its `students`).
    """

    title: str
    kind: Literal["scores", "comparison", "sources", "cases"] = "scores"
    students: Name = "main"
    columns: list[Domain] = []
    overall: bool = False
    rows: list[Cell] = []


class Watch(Strict):
    """How the runs of a comparison are looked at: every so many steps, on so many validation items a benchmark.

    `noise_batches` mini-batches of `noise_batch_size` questions, of at most one epoch, tell how much a method's
    gradient varies; small ones, since one epoch has many of them.
    """

    every: Positive
    items: Positive
    max_new_tokens: Positive
    batch_size: Positive
    noise_batches: Annotated[int, Field(ge=3)]
    noise_batch_size: Positive


class Study(Strict):
    """A selection of runs that a figure reads: rows as in a table, at their own rates or, with `grid`, at each rate
    of the sweep's grid and scored on validation items."""

    students: Name = "study"
    grid: bool = False
    rows: list[Cell]


class Sweep(Strict):
    """The learning-rate grid, one for every (student, trainset, method), judged on validation items only.

    `further` rates, above the grid, are tried where the best of the grid is its largest.
    """

    learning_rates: list[Rate]
    further: list[Rate] = []
    seeds: list[int]
    extra: list[Cell] = []
