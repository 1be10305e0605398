"""What is scored, and who judges whether a reply is safe, as typed models (paper, section Evaluation)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from gdpo.config.fields import Name, Positive, Reference, Seed, Share
from gdpo.config.strict import InvalidSetting, Strict, omit_if_default
from gdpo.core.records import Domain

Role = Literal["taught", "untaught", "format"]


class Benchmark(Strict):
    """One column of the tables: where its items come from and how they are asked.

    `items` are the source's first so many, or, with `items_seed`, so many drawn by it, in the source's order. Each is
    answered greedily, or `samples` times at `temperature` and `top_p` by `seed`; its score is then the share of samples
    that are right (pass@1). Columns that are `ours`, not the paper's, are in no average.
    """

    display: str
    domain: Domain
    source: Name
    kind: Literal["generate", "choose"] = "generate"
    items: Positive | None = None
    items_seed: Seed | None = Field(**omit_if_default(None))
    validation_items: int = Field(0, ge=0)
    max_new_tokens: Positive = 64
    samples: Positive = Field(**omit_if_default(1))
    temperature: float = Field(ge=0, **omit_if_default(0.0))
    top_p: Share = Field(**omit_if_default(1.0))
    seed: Seed = Field(**omit_if_default(0))
    ours: bool = Field(**omit_if_default(False))
    role: Role = Field(**omit_if_default("taught"))
    chance: float = Field(ge=0, lt=1, **omit_if_default(0.0))

    @model_validator(mode="after")
    def _samples(self) -> Benchmark:
        if self.samples > 1 and (self.temperature == 0 or self.kind == "choose"):
            raise InvalidSetting("samples > 1 needs kind: generate and a temperature above 0")
        return self


class Measured(Strict):
    """What is measured of every scored run besides its scores, before its weights are deleted (evaluate.measures).

    `text`: how many examples of the student's pretraining, drawn by `seed`, stand for text that no set teaches; a world
    has them. `items`: how many items of a benchmark are measured at most, the first ones; absent, all.
    """

    text: int = Field(0, ge=0)
    seed: Seed = 0
    items: Positive | None = None


class Judge(Strict):
    """Who says whether a reply to a harmful request is safe.

    `rules`: a refusal by phrase, in which case nothing else is given. `guard`: a causal model that a chat template asks
    about a conversation and that answers `safe` or not, such as Llama-Guard. `classifier`: a sequence classifier of
    (request, reply). A reply is safe where the answer begins with, or the label is, `safe`; it is unsafe where the
    answer begins with `unsafe`, or the label is another.
    """

    backend: Literal["rules", "guard", "classifier"] = "rules"
    reference: Reference | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    safe: str = "safe"
    unsafe: str = "unsafe"
    batch_size: Positive = 8
    max_tokens: Positive = 2048

    @model_validator(mode="after")
    def _weights(self) -> Judge:
        if (self.backend == "rules") != (self.reference is None):
            raise InvalidSetting("'reference' belongs to the backends guard and classifier, which need one")
        return self
