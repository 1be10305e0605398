"""What `workflow/config/figures.yaml` may hold: how figures look, and what each one shows."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from gdpo.config.fields import Name, Positive, Rate
from gdpo.config.loader import read_yaml
from gdpo.config.strict import Strict
from gdpo.config.yaml_loader import first_problem
from gdpo.core.errors import UserError
from gdpo.core.project import CONFIG

Colour = Annotated[str, Field(pattern=r"^#[0-9A-Fa-f]{6}$")]
Points = Annotated[float, Field(ge=7)]  # smaller type is not readable in print


class Style(Strict):
    """How every figure looks; series i has entry i of `palette`, `markers`, `lines`, `hatches`, round and round."""

    palette: Annotated[list[Colour], Field(min_length=1)]
    markers: Annotated[list[str], Field(min_length=1)]
    lines: Annotated[list[Literal["-", "--", "-.", ":"]], Field(min_length=1)]
    hatches: Annotated[list[str], Field(min_length=1)]
    muted: Colour
    font_size: Points
    small_font_size: Points
    widths: dict[Literal["column", "page"], Rate]
    dpi: Positive


class Figure(Strict):
    """One figure: its name in print, and its size. `height` is one row of panels', in inches."""

    title: str
    caption: str
    width: Literal["column", "page"]
    height: Rate


class OfSets(Figure):
    """The training sets of a table's trained rows."""

    table: Name


class Embedding(OfSets):
    dimensions: Annotated[int, Field(ge=2)]
    perplexity: Rate
    seed: int
    points: Positive


class Lengths(OfSets):
    most_units: Positive


class RewardUnits(Figure):
    trainset: Name
    most_units: Positive
    bin: Rate


class OfStudy(Figure):
    study: Name


class OfTable(Figure):
    table: Name


class Figures(Strict):
    """Every figure by name, in the order in which they are listed."""

    proficiency: Figure
    embedding: Embedding
    lengths: Lengths
    reward_units: RewardUnits
    group_size: OfStudy
    train_size: OfStudy
    tradeoff: OfStudy
    compute: OfTable
    reward_time: OfTable


class Settings(Strict):
    style: Style
    figures: Figures

    def drawn(self, name: str) -> list:
        """What a figure's files depend on beside its inputs: all but the words that stand around it in print."""
        return [self.style, getattr(self.figures, name).model_dump(exclude={"title", "caption"})]


@cache
def load(path: Path = CONFIG / "figures.yaml") -> Settings:
    """The settings at `path`; raises UserError naming file and key where they do not fit."""
    try:
        return Settings.model_validate(read_yaml(path))
    except ValidationError as error:
        raise UserError(path=path, **first_problem(error, Settings)) from None
