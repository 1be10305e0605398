"""Figures as typed models: what each kind shows, and of which table, study or training set.

The kind of a figure is a module of gdpo/report/figures. A figure that is named as its kind need not say it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from gdpo.config.fields import Name, Positive, Rate
from gdpo.config.strict import Strict


class Figure(Strict):
    """What every figure has: its name in print, and its size. `height` is one row of panels', in inches."""

    title: str
    caption: str
    width: Literal["column", "page"]
    height: Rate


class OfTable(Figure):
    table: Name


class OfStudy(Figure):
    study: Name


class Proficiency(Figure):
    kind: Literal["proficiency"]


class Embedding(OfTable):
    """The training sets of a table's trained rows, on a plane."""

    kind: Literal["embedding"]
    dimensions: Annotated[int, Field(ge=2)]
    perplexity: Rate
    seed: int
    points: Positive


class Lengths(OfTable):
    """The training sets of a table's trained rows, by lengths."""

    kind: Literal["lengths"]
    most_units: Positive


class RewardUnits(Figure):
    kind: Literal["reward_units"]
    trainset: Name
    most_units: Positive
    bin: Rate


class GroupSize(OfStudy):
    kind: Literal["group_size"]


class TrainSize(OfStudy):
    kind: Literal["train_size"]


class Curve(OfStudy):
    """Score against a number, which each row of the study has as its title: `label` says of what."""

    kind: Literal["curve"]
    label: str
    log: bool = False


class Tradeoff(OfStudy):
    kind: Literal["tradeoff"]


class Compute(OfTable):
    kind: Literal["compute"]


class RewardTime(OfTable):
    kind: Literal["reward_time"]


class Retention(OfTable):
    """Score against what was retained, a point for each row of a table of scores."""

    kind: Literal["retention"]


AnyFigure = (
    Proficiency
    | Embedding
    | Lengths
    | RewardUnits
    | GroupSize
    | TrainSize
    | Curve
    | Tradeoff
    | Compute
    | RewardTime
    | Retention
)


def _with_kind(figures: Any) -> Any:
    """Each entry without a `kind` with its name for one."""
    if not isinstance(figures, dict):
        return figures
    return {
        name: {"kind": name, **entry} if isinstance(entry, dict) and "kind" not in entry else entry
        for name, entry in figures.items()
    }


Figures = Annotated[dict[Name, Annotated[AnyFigure, Field(discriminator="kind")]], BeforeValidator(_with_kind)]
