"""Score against the number of training questions (paper, figure: performance by training-set size)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gdpo.config.figures import TrainSize
from gdpo.config.layout import Layout
from gdpo.config.scale import Scale
from gdpo.core.files import read_jsonl
from gdpo.report.figures import curve
from gdpo.report.figures.common import scored

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def available(scale: Scale, shown: TrainSize) -> bool:
    return shown.study in scale.studies


def inputs(layout: Layout, shown: TrainSize) -> list[Path]:
    study = layout.scale.studies[shown.study]
    sets = dict.fromkeys(layout.groups(cell.trainset) for cell in study.rows)
    return [*sets, *scored(layout, layout.selected_runs(study))]


def data(layout: Layout, shown: TrainSize) -> list[dict]:
    """As `curve.curve`; `x` counts the questions of the row's set that have completions."""
    return curve.points(layout, shown, lambda cell: sum(1 for _ in read_jsonl(layout.groups(cell.trainset))))


def draw(rows: list[dict], shown: TrainSize) -> Canvas:
    return curve.lines(rows, shown, "training questions", log=True)
