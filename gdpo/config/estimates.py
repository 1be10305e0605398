"""What a plan takes for granted before anything is made, as typed models: lengths, shares, sizes, and a card's speed.

Each number stands in a scale's `expected` with its source, and is replaced by what is on disk once that is made. None
of it is part of any result's settings.
"""

from __future__ import annotations

from pydantic import Field

from gdpo.config.fields import Name, Positive, Rate, Share
from gdpo.config.strict import Strict
from gdpo.core.records import Domain

ByDomain = dict[Domain, Rate]


class Ask(Strict):
    """Mean tokens of one request to an endpoint, and how many requests are made in all (absent: one a question)."""

    prompt_tokens: Rate
    completion_tokens: Rate
    requests: Positive | None = None


class Card(Strict):
    """A GPU that nothing was measured on: its peak in bfloat16, its usable memory, and what share of the peak it gives.

    `train`: of 6 N operations a token, activations computed again left out; `score`: of 2 N a token of a forward pass;
    `vllm` and `hf`: of 2 N a sampled token, with vLLM's and with transformers' batches.
    """

    name: str
    tflops: Rate
    memory_gib: Rate
    train: Share
    score: Share
    vllm: Share
    hf: Share


class Expected(Strict):
    """Means by domain, in tokens of the students, and sizes that are not known before their step has run.

    `pool`: questions after decontamination; `items`: of benchmarks that take all their source has; `mixes`: how many of
    a training set are of which domain. `response_tokens` are the teacher's, thinking included; `answer_tokens` the
    students'. `distinct`: of a group's completions, the share that no other repeats; `contrast`: of groups, the share
    with two different rewards, from which alone dpo and gdpo learn.
    """

    pool: dict[Domain, Positive] = Field(default_factory=dict)
    items: dict[Name, Positive] = Field(default_factory=dict)
    mixes: dict[Name, dict[Domain, Positive]] = Field(default_factory=dict)
    prompt_tokens: ByDomain
    response_tokens: ByDomain
    answer_tokens: ByDomain
    distinct: Share
    contrast: Share
    annotate: Ask | None = None
    merge: Ask | None = None
    card: Card | None = None
