"""Score against the number of completions a question (paper, figure: performance by G)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gdpo.config.figures import GroupSize
from gdpo.report.figures import curve
from gdpo.report.figures.curve import available as available
from gdpo.report.figures.curve import data as data
from gdpo.report.figures.curve import inputs as inputs

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def draw(rows: list[dict], shown: GroupSize) -> Canvas:
    return curve.lines(rows, shown, "group size G", log=False)
