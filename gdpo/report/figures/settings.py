"""What `workflow/config/figures.yaml` may hold: how figures look, and what each one shows."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from gdpo.config.fields import Positive, Rate
from gdpo.config.figures import AnyFigure, Figures
from gdpo.config.loader import read_yaml
from gdpo.config.scale import Scale
from gdpo.config.strict import Strict
from gdpo.config.written import where
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


class Settings(Strict):
    style: Style
    figures: Figures


@cache
def load(path: Path = CONFIG / "figures.yaml") -> Settings:
    """The settings at `path`; raises UserError naming file and key where they do not fit."""
    raw = read_yaml(path)
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        problem = first_problem(error, Settings)
        _, key = where(raw, problem["key"] or "", path)
        raise UserError(path=path, **problem | {"key": key or None}) from None


def known(scale: Scale) -> dict[str, AnyFigure]:
    """Every figure by name: those of figures.yaml, in its order, and the scale's own, which may replace one."""
    return load().figures | scale.figures


def drawn(name: str, figure: AnyFigure) -> dict[str, Any]:
    """What the files of figure `name` depend on beside its inputs and the style: not the words around it in print."""
    settings = figure.model_dump(exclude={"title", "caption", "kind"})
    return settings if figure.kind == name else {"kind": figure.kind, **settings}
