"""Correlations of the base models' proficiencies over the pool's questions (paper, Fig. A1)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gdpo.config.figures import Proficiency
from gdpo.config.layout import Layout
from gdpo.config.scale import Scale
from gdpo.core.files import read_csv
from gdpo.report.figures import style
from gdpo.report.figures.settings import load

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def available(scale: Scale, shown: Proficiency) -> bool:
    return len(scale.proficiency.models) > 1  # one model alone correlates with nothing


def inputs(layout: Layout, shown: Proficiency) -> list[Path]:
    return [layout.proficiency]


def data(layout: Layout, shown: Proficiency) -> list[dict]:
    """A row a pair: Pearson's r with its 95% interval by Fisher's transformation, over `questions`.

    r is empty where a model is always right or always wrong.
    """
    measured = read_csv(layout.proficiency)
    columns = {key: [float(row[key]) for row in measured] for key in measured[0] if key != "id"} if measured else {}
    titles = {key: layout.scale.models[key].display if key in layout.scale.models else key for key in columns}
    rows = []
    for first, xs in columns.items():
        for second, ys in columns.items():
            r, low, high = correlation(xs, ys)
            pair = {"first": titles[first], "second": titles[second]}
            rows.append(pair | {"correlation": r, "low": low, "high": high, "questions": len(xs)})
    return rows


def correlation(xs: list[float], ys: list[float]) -> tuple[float | None, float | None, float | None]:
    """Pearson's r with its 95% interval; None for all three where one side does not vary."""
    from scipy.stats import pearsonr

    if len(set(xs)) < 2 or len(set(ys)) < 2:
        return None, None, None
    found = pearsonr(xs, ys)
    if len(xs) <= 3:
        return float(found.statistic), None, None
    low, high = found.confidence_interval(0.95)
    return float(found.statistic), float(low), float(high)


def draw(rows: list[dict], shown: Proficiency) -> Canvas:
    import numpy as np
    import seaborn as sns

    titles = style.distinct(rows, "first")
    values = np.array([np.nan if row["correlation"] is None else row["correlation"] for row in rows])
    values = values.reshape(len(titles), len(titles))
    labels = np.where(np.isnan(values), "-", np.char.mod("%.2f", values))
    canvas, ((ax,),) = style.panels(shown, 1)
    sns.heatmap(
        np.nan_to_num(values), annot=labels, fmt="", cmap="Blues", vmin=np.nanmin([*values.flat, 0.0]), vmax=1,
        mask=np.triu(np.ones_like(values, dtype=bool), 1), linewidths=1, ax=ax,
        annot_kws={"size": load().style.small_font_size}, cbar=False,
    )  # fmt: skip
    ax.grid(False)
    ax.tick_params(length=0)
    numbers = range(1, len(titles) + 1)  # names below narrow columns would run into each other
    ax.set_xticklabels(numbers)
    ax.set_yticklabels([f"{title}  {number}" for title, number in zip(titles, numbers, strict=True)], rotation=0)
    return canvas
