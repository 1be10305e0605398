"""Score against the number of training questions (paper, figure: performance by training-set size)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gdpo.config.layout import Layout
from gdpo.config.scale import Scale
from gdpo.core.files import read_jsonl
from gdpo.report.figures import curve
from gdpo.report.figures.common import scored
from gdpo.report.figures.settings import load

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def available(scale: Scale) -> bool:
    return load().figures.train_size.study in scale.studies


def inputs(layout: Layout) -> list[Path]:
    study = layout.scale.studies[load().figures.train_size.study]
    sets = dict.fromkeys(layout.groups(cell.trainset) for cell in study.rows)
    return [*sets, *scored(layout, layout.selected_runs(study))]


def data(layout: Layout) -> list[dict]:
    """As `curve.curve`; `x` counts the questions of the row's set that have completions."""
    return curve.curve(
        layout, load().figures.train_size, lambda cell: sum(1 for _ in read_jsonl(layout.groups(cell.trainset)))
    )


def draw(rows: list[dict]) -> Canvas:
    return curve.draw(rows, load().figures.train_size, "training questions", log=True)
