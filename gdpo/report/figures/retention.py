"""Ours: score against what was retained, a point for each row of a table: what a row gains, and what it forgets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gdpo.config.figures import Retention
from gdpo.config.layout import Layout, origin
from gdpo.config.scale import Scale
from gdpo.report.columns import averaged_columns
from gdpo.report.figures import style
from gdpo.report.figures.common import estimate, scored
from gdpo.report.tables import is_origin, row_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def available(scale: Scale, shown: Retention) -> bool:
    return shown.table in scale.tables and scale.tables[shown.table].kind == "scores"


def inputs(layout: Layout, shown: Retention) -> list[Path]:
    return scored(layout, layout.selected_runs(layout.scale.tables[shown.table]))


def data(layout: Layout, shown: Retention) -> list[dict]:
    """A row per student and trained row of the table: mean score over all benchmarks, and of the items that the
    untrained student had right the share that is still right, both in percent with 95% intervals; and the untrained
    student's score. Retention averages the benchmarks of which the untrained student had any item right."""
    from gdpo.report.scores import Scores

    scale, scores = layout.scale, Scores(layout)
    table, names = scale.tables[shown.table], averaged_columns(layout)
    rows = []
    for student in scale.student_set(table.students):
        before = origin(student)
        known = [name for name in names if scores.retained_mean(before, before, [name]) is not None]
        for cell in table.rows:
            if not is_origin(cell):
                runs = layout.cell_runs(student, cell)
                row = {"student": scale.model(student).display, "row": row_title(scale, cell), "seeds": len(runs)}
                row |= estimate("score", scores.bootstrapped_mean(runs, names))
                row |= estimate("retention", scores.bootstrapped_retention(runs, before, known))
                rows.append(row | {"origin": scores.mean(before, names)})
    return rows


def draw(rows: list[dict], shown: Retention) -> Canvas:
    """A panel a student; the dashed line is the untrained student's score."""
    students, titles = style.distinct(rows, "student"), style.distinct(rows, "row")
    canvas, axes = style.panels(shown, len(students))
    for student, ax in zip(students, axes.flat, strict=True):
        found = [row for row in rows if row["student"] == student and None not in (row["score"], row["retention"])]
        for row in found:
            errors = {
                axis: style.spread([row[key]], [row[f"{key}_low"]], [row[f"{key}_high"]])
                for axis, key in (("xerr", "retention"), ("yerr", "score"))
            }
            look = style.look(titles.index(row["row"])) | {"linestyle": "none"}
            ax.errorbar(row["retention"], row["score"], **errors, elinewidth=0.6, label=row["row"], **look)
        if found and found[0]["origin"] is not None:
            ax.axhline(found[0]["origin"], color="black", linestyle="--", linewidth=0.9, label="untrained")
        ax.set(title=student, xlabel="retained, %")
    axes.flat[0].set_ylabel("score, %")
    style.legend(canvas, axes.flat, 4)
    return canvas
