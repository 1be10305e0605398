"""Scores of a study's rows against a number, which is each row's title or, for other kinds, another of the row's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gdpo.config.figures import Curve, OfStudy
from gdpo.config.layout import Layout, origin
from gdpo.config.scale import Scale
from gdpo.config.tables import Cell
from gdpo.core.errors import UserError
from gdpo.report.figures import style
from gdpo.report.figures.common import averages, estimate, scored

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def available(scale: Scale, shown: OfStudy) -> bool:
    return shown.study in scale.studies


def inputs(layout: Layout, shown: OfStudy) -> list[Path]:
    return scored(layout, layout.selected_runs(layout.scale.studies[shown.study]))


def data(layout: Layout, shown: OfStudy) -> list[dict]:
    """As `points`; `x` is the row's title."""
    return points(layout, shown, lambda cell: title_number(cell, shown))


def title_number(cell: Cell, shown: OfStudy) -> float:
    try:
        return float(cell.row)
    except ValueError:
        raise UserError(key=f"studies.{shown.study}", found=f"row '{cell.row}'", expected="a number") from None


def draw(rows: list[dict], shown: Curve) -> Canvas:
    return lines(rows, shown, shown.label, shown.log)


def points(layout: Layout, shown: OfStudy, place: Callable[[Cell], float]) -> list[dict]:
    """A row per student, average and row of the study, in order of `place`: `x`, mean score over seeds with its 95%
    interval, and the untrained student's; in percent, empty where a benchmark of the average was dropped."""
    from gdpo.report.scores import Scores

    scale, scores = layout.scale, Scores(layout)
    study = scale.studies[shown.study]
    rows = []
    for student in scale.student_set(study.students):
        for average, benchmarks in averages(layout).items():
            of_average = {"student": scale.model(student).display, "average": average}
            before = estimate("origin", scores.bootstrapped_mean(origin(student), benchmarks))
            for x, cell in sorted(((place(cell), cell) for cell in study.rows), key=lambda pair: pair[0]):
                runs = layout.cell_runs(student, cell)
                found = estimate("score", scores.bootstrapped_mean(runs, benchmarks))
                rows.append(of_average | {"row": cell.row, "x": x, "seeds": len(runs)} | found | before)
    return rows


def lines(rows: list[dict], shown: OfStudy, label: str, log: bool) -> Canvas:
    """A panel an average, a line a student."""
    titles, students = style.distinct(rows, "average"), style.distinct(rows, "student")
    canvas, axes = style.panels(shown, len(titles))
    for title, ax in zip(titles, axes.flat, strict=True):
        for series, student in enumerate(students):
            found = [r for r in rows if (r["average"], r["student"]) == (title, student) and r["score"] is not None]
            if not found:
                continue
            ys = [row["score"] for row in found]
            error = style.spread(ys, [row["score_low"] for row in found], [row["score_high"] for row in found])
            look = style.look(series)
            ax.errorbar([row["x"] for row in found], ys, error, capsize=2, elinewidth=0.8, label=student, **look)
            if found[0]["origin"] is not None:
                line = {"color": look["color"], "linestyle": (0, (4, 2)), "linewidth": 0.9}
                ax.axhline(found[0]["origin"], label=f"{student}, untrained", **line)
        ax.set(title=title, xlabel=label)
        ticks = sorted({row["x"] for row in rows})
        if log:
            ax.set_xscale("log")
            ax.minorticks_off()
        ax.set_xticks(ticks, [f"{x:g}" for x in ticks])
    axes.flat[0].set_ylabel("score, %")
    style.legend(canvas, axes.flat, 4)
    return canvas
