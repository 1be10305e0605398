"""Score against the number of completions a question (paper, figure: performance by G)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gdpo.config.layout import Layout
from gdpo.config.scale import Scale
from gdpo.config.tables import Cell
from gdpo.core.errors import UserError
from gdpo.report.figures import curve
from gdpo.report.figures.common import scored
from gdpo.report.figures.settings import load

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def available(scale: Scale) -> bool:
    return load().figures.group_size.study in scale.studies


def inputs(layout: Layout) -> list[Path]:
    return scored(layout, layout.selected_runs(layout.scale.studies[load().figures.group_size.study]))


def data(layout: Layout) -> list[dict]:
    """As `curve.curve`; `x` is the row's title, G."""
    return curve.curve(layout, load().figures.group_size, size)


def size(cell: Cell) -> float:
    try:
        return float(cell.row)
    except ValueError:
        study = load().figures.group_size.study
        raise UserError(key=f"studies.{study}", found=f"row '{cell.row}'", expected="a number of completions") from None


def draw(rows: list[dict]) -> Canvas:
    return curve.draw(rows, load().figures.group_size, "group size G", log=False)
