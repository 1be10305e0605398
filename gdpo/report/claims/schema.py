"""What `workflow/config/claims.yaml` may hold: the paper's claims as testable statements over a scale's results."""

from __future__ import annotations

from math import inf
from typing import Annotated, Literal

from pydantic import Field, RootModel, model_validator

from gdpo.config.fields import Name, Rate
from gdpo.config.strict import Strict
from gdpo.report.claims.objective_values import VALUES

Columns = Literal["math", "general", "safety", "overall"]
Direction = Literal["greater", "less"]
Range = tuple[float, float]
Quantity = Literal["seconds", "seconds_with_teacher", "seconds_to_reward", "completions", "memory", "noise"]


class Selection(Strict):
    """The runs of one row: (trainset, method) over a scale's seeds; without either, the untrained student."""

    trainset: Name = "none"
    method: Name = "origin"


class PublishedRows(Strict):
    """The rows of a published table that the claim is about: `a` against `b`, or against each of `others`."""

    table: str
    a: str
    b: str = "Origin"
    others: tuple[str, ...] = ()


class ClaimBase(Strict):
    """`statement`: the claim in plain words; `source`: where the paper makes it; `reading`: how it became this test."""

    statement: str
    source: str
    reading: str = ""
    printed: PublishedRows | None = None


class ScoreClaim(ClaimBase):
    """A claim about scores of `a`'s runs, averaged over a student set, in points of the columns' average.

    `of: retained` counts, of the items that the untrained student had right, those still right.
    """

    a: Selection
    students: Name = "main"
    columns: Columns = "overall"
    of: Literal["score", "retained"] = "score"


class Difference(ScoreClaim):
    """a minus b is above 0 (`greater`) or below 0 (`less`)."""

    test: Literal["difference"]
    b: Selection = Selection()
    direction: Direction

    @property
    def claimed(self) -> Range:
        return side(self.direction)


class Equivalence(ScoreClaim):
    """a minus b is within `margin` points of 0; `reading` gives the margin's reason."""

    test: Literal["equivalence"]
    reading: str
    b: Selection
    margin: Rate

    @property
    def claimed(self) -> Range:
        return (-self.margin, self.margin)


class Best(ScoreClaim):
    """a minus the best of `others` is above 0."""

    test: Literal["best"]
    others: Annotated[list[Selection], Field(min_length=1)]

    @property
    def claimed(self) -> Range:
        return (0.0, inf)


class Retained(ClaimBase):
    """No benchmark of any student falls by more than `margin` points from the untrained student to `a`."""

    test: Literal["retained"]
    reading: str
    a: Selection
    students: Name = "main"
    margin: Rate

    @property
    def claimed(self) -> Range:
        return (-self.margin, inf)

    @property
    def refuted(self) -> Range:
        return (-inf, 0.0)


class Interaction(ScoreClaim):
    """a minus b of `students`, less the same of those of `against` that are not among them, is above or below 0."""

    test: Literal["interaction"]
    b: Selection = Selection()
    against: Name
    direction: Direction
    printed_against: PublishedRows | None = None

    @model_validator(mode="after")
    def _printed_twice(self) -> Interaction:
        if (self.printed is None) != (self.printed_against is None):
            raise ValueError("expected 'printed' and 'printed_against' together, or neither")
        return self

    @property
    def claimed(self) -> Range:
        return side(self.direction)


class BoundedClaim(ClaimBase):
    """What is measured lies above `above` and below `below`."""

    printed: None = None  # no table of the paper prints it
    above: float = -inf
    below: float = inf

    @model_validator(mode="after")
    def _a_range(self) -> BoundedClaim:
        if self.claimed == (-inf, inf) or self.above >= self.below:
            raise ValueError("expected 'above', 'below' or both, in that order")
        return self

    @property
    def claimed(self) -> Range:
        return (self.above, self.below)


class Correlation(BoundedClaim):
    """The mean correlation over questions: of pairs of base models, of each with their average, of average and strict.

    With `models`, a claim about so many base models: other numbers of them say nothing about it.
    """

    test: Literal["correlation"]
    between: Literal["models", "average", "strict"]
    models: Annotated[int, Field(ge=2)] | None = None


class Trend(ClaimBase):
    """The slope of the columns' average against log2 of a study's x: its rows' titles or training sets' questions."""

    test: Literal["trend"]
    study: Name
    x: Literal["title", "questions"]
    columns: Columns = "overall"
    direction: Direction

    @property
    def claimed(self) -> Range:
        return side(self.direction)


class Measure(ClaimBase):
    """The ratio of what was measured in a's runs to that in b's, seed by seed, is below `below`."""

    test: Literal["measure"]
    printed: None = None
    quantity: Quantity
    a: Selection
    b: Selection
    students: Name = "main"
    below: Rate = 1.0

    @property
    def claimed(self) -> Range:
        return (-inf, self.below)


class Derived(BoundedClaim):
    """A value that mathematics fixes, whatever is trained; `proof` names its test in tests/trainer."""

    test: Literal["derived"]
    value: str
    proof: str

    @model_validator(mode="after")
    def _known(self) -> Derived:
        if self.value not in VALUES:
            raise ValueError(f"value: expected one of {', '.join(VALUES)}, found '{self.value}'")
        return self


Claim = Annotated[
    Difference | Equivalence | Best | Retained | Interaction | Correlation | Trend | Measure | Derived,
    Field(discriminator="test"),
]


Compared = Difference | Equivalence | Best | Retained | Interaction | Measure  # rows, among a student set


class Claims(RootModel[dict[Name, Claim]]):
    """Every claim by its id."""


def side(direction: Direction) -> Range:
    return (0.0, inf) if direction == "greater" else (-inf, 0.0)


def selections(claim: Claim) -> list[Selection]:
    """The rows that a claim compares; none for a trend, whose rows its study names."""
    if isinstance(claim, Correlation | Trend | Derived):
        return []
    if isinstance(claim, Best):
        return [claim.a, *claim.others]
    return [claim.a] if isinstance(claim, Retained) else [claim.a, claim.b]
