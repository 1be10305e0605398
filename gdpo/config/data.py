"""The data side of a scale as typed models: sources, decontamination, annotation, merging, proficiency, selection.

The paper's section on MetaKL, steps 1 to 5; what it leaves open is argued in docs/assumptions.md.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gdpo.config.endpoint import Endpoint
from gdpo.config.fields import Name, Positive, Reference, Seed, Share
from gdpo.config.strict import InvalidSetting, Strict, omit_if_default
from gdpo.core.records import Domain, Grader

Mapped = Literal["question", "answer", "choices", "solution", "difficulty", "topics"]
Threshold = Annotated[float, Field(ge=-1, le=1)]


class HubSource(Strict):
    """A data set on the Hub at a revision; `gated` ones need a token of somebody who accepted their terms.

    `name` is its configuration. `data_dir` or `data_files` say which of its files are read, where it has none.
    """

    path: str
    name: str | None = None
    data_dir: str | None = None
    data_files: str | None = None
    split: str
    revision: str | None = None
    gated: bool = False


class Gym(Strict):
    """Questions that the package reasoning-gym makes: `size` of its data set `dataset` by `seed` and `config`."""

    dataset: Name
    size: Positive
    seed: Seed
    config: dict[str, Any] = Field(default_factory=dict)


class Source(Strict):
    """A real data source: where it is on the Hub and in a mirror, or what makes it, and how a row becomes a Question.

    `fields` maps fields of a Question to paths into a row (`answer: "answers.0"`); a layout that a path cannot
    express has a function of gdpo.metakl.readers, named by `reader`. `rows` keeps the first so many questions;
    `instruction` is put below each question. `stands_in_for` names the paper's source whose role it plays.
    `no_answer` is what a row holds that has none (`[proof, null]`), in any case: such rows are left out. Where it is
    absent, a mathematical answer that looks like one is refused; `[]` says that each is an answer.
    """

    domain: Domain
    reader: Name = "fields"
    fields: dict[Mapped, str] = Field(default_factory=dict)
    grader: Grader
    licence: str
    hub: HubSource | None = None
    mirror: str | None = None
    gym: Gym | None = Field(**omit_if_default(None))
    stands_in_for: str | None = None
    pool: bool = False
    rows: Positive | None = None
    instruction: str = ""
    no_answer: list[str | None] | None = Field(**omit_if_default(None))

    @model_validator(mode="after")
    def _readable(self) -> Source:
        if (self.reader == "fields") != bool(self.fields):
            raise InvalidSetting("'fields' belongs to reader: fields, and only there")
        needed = ("question",) if self.grader == "refusal" else ("question", "answer")
        missing = [field for field in needed if self.fields and field not in self.fields]
        if missing:
            raise InvalidSetting(key="fields", found=f"no path of {' and '.join(missing)}")
        if self.fields and (self.grader == "letter") != ("choices" in self.fields):
            raise InvalidSetting("'choices' belongs to grader letter, and only there", key="fields")
        if self.hub is None and self.mirror is None and self.gym is None:
            raise InvalidSetting(expected="'hub' or 'mirror', where its rows are, or 'gym', which makes them")
        return self


class Decontaminate(Strict):
    """What makes a pool question one that a benchmark asks: the same text, normalised, or a near duplicate of it.

    `ngram: null` compares whole texts alone. Else two questions that share `ngram` words in a row are compared, and
    listed as spared where they are no near duplicates; those that share rare words are compared too. `phrase` words in
    a row that more than `frequent` texts of benchmarks and pool hold are boilerplate. Near duplicates share own words
    of `min_bits` or more, and these weigh at least `overlap` of all that either has; `overlap_with_numbers` suffices
    where they share `numbers` numbers of two digits. Formulas share at least `formula` of their numbers and operators.
    Of a text with `contained` of an item's own words, the sentences that hold them are compared, and it holds the item
    only with `contained_run` words in a row in common. `protect` names sources that are guarded like benchmarks.
    """

    ngram: Positive | None = 13
    phrase: Positive = Field(**omit_if_default(5))
    frequent: Positive = Field(**omit_if_default(10))
    overlap: Share = Field(**omit_if_default(0.6))
    overlap_with_numbers: Share = Field(**omit_if_default(0.44))
    numbers: Positive = Field(**omit_if_default(2))
    contained: Share = Field(**omit_if_default(0.85))
    contained_run: Positive = Field(**omit_if_default(6))
    formula: Share = Field(**omit_if_default(0.8))
    min_bits: Positive = Field(**omit_if_default(20))
    protect: list[Name] = Field(default_factory=list)


class Encoder(Strict):
    """The sentence encoder of annotation by taxonomy and of merging by embedding.

    A text of more than `max_tokens` loses its middle. ours: with 128, MMLU's subjects are found as often as with 256
    and the end cut off (55% and 54% of 900 questions), in half the time; batches of 16 are the fastest on one core.
    """

    reference: Reference
    batch_size: Positive = 16
    max_tokens: Positive = 128


class Taxonomy(Strict):
    """How skills of the taxonomy are matched: `min_skills` to `max_skills` each, within `margin` of the best score.

    `file` is a taxonomy of one's own; absent: the one of gdpo/metakl/data. What the topics stand for counts towards
    `max_skills`, yet `min_skills` others stay. ours: on 1,050 questions of the mirror's sources, weighted by their
    sizes, these numbers give 3.7 skills a question and most often 4, as in the paper's Fig. A3.
    """

    file: str | None = None
    min_skills: Positive = 2
    max_skills: Positive = 4
    margin: Share = 0.05
    topics: bool = True  # whether what the source says of its own rows is among a question's skills

    @model_validator(mode="after")
    def _in_order(self) -> Taxonomy:
        if self.max_skills < self.min_skills:
            raise InvalidSetting(
                key="max_skills", found=self.max_skills, expected=f"at least the {self.min_skills} of 'min_skills'"
            )
        return self


class Annotate(Strict):
    """Who names the skills of each question: the source's own topics, the taxonomy, or an endpoint's model.

    `fallback` is what becomes of a question that the endpoint's model refuses, or answers `endpoint.max_rephrasings`
    times with what does not fit: the step ends and names it (`stop`), or it takes the skills of the taxonomy.
    """

    backend: Literal["source", "taxonomy", "openai"] = "source"
    # Left out of a dump where it says nothing, so that annotations without it keep their hash.
    fallback: Annotated[Literal["stop", "taxonomy"], Field(exclude_if=lambda fallback: fallback == "stop")] = "stop"
    taxonomy: Taxonomy = Taxonomy()
    endpoint: Endpoint | None = None

    @model_validator(mode="after")
    def _endpoint(self) -> Annotate:
        if self.backend == "openai" and self.endpoint is None:
            raise InvalidSetting("backend openai needs an 'endpoint'")
        return self

    @property
    def needed_endpoint(self) -> Endpoint:
        """That of backend openai, which has one."""
        assert self.endpoint is not None
        return self.endpoint


MergeBackend = Literal["source", "embedding", "openai"]


class Merge(Strict):
    """Who merges skills into knowledge units: nobody (`source`), embeddings, or an endpoint's model.

    Skills whose normalised, stemmed names are equal are one unit, and so are those in a cluster of cosine at least
    `threshold`. `compare` names backends that run beside, for their agreement.
    """

    backend: MergeBackend = "source"
    compare: list[MergeBackend] = Field(default_factory=list)
    threshold: Threshold = 0.85
    endpoint: Endpoint | None = None

    @model_validator(mode="after")
    def _endpoint(self) -> Merge:
        if "openai" in (self.backend, *self.compare) and self.endpoint is None:
            raise InvalidSetting("backend openai needs an 'endpoint'")
        return self

    @property
    def needed_endpoint(self) -> Endpoint:
        """That of backend openai, which has one."""
        assert self.endpoint is not None
        return self.endpoint


class Proficiency(Strict):
    """Which base models answer how much of the pool, and how: `questions` in all, or by domain; null is every one.

    `samples` answers a question at `temperature`; 0 is greedy, and then one suffices. `choices: likelihood` takes a
    lettered question's most likely choice in place of a written answer.
    """

    models: list[Name]
    questions: Positive | dict[Domain, Positive] | None
    samples: Positive = 1
    temperature: float = Field(0.0, ge=0)
    top_p: Share = 1.0
    choices: Literal["generate", "likelihood"] = "generate"
    max_new_tokens: Positive
    batch_size: Positive
    seed: Seed = 0

    @model_validator(mode="after")
    def _samples(self) -> Proficiency:
        if self.samples > 1 and self.temperature == 0:
            raise InvalidSetting("samples > 1 needs a temperature above 0: greedy answers are all the same")
        return self


class Selection(Strict):
    """What Algorithm 1 takes beside the size: the unit threshold r, and how many mastered questions each unit keeps.

    `unmeasured` questions, outside of the sample whose proficiency is measured, are left out (`exclude`) or take the
    mean of their units' proficiencies (`estimate`).
    """

    keep_units: Positive
    replay_per_unit: int = Field(ge=0)
    unmeasured: Literal["exclude", "estimate"] = "exclude"
