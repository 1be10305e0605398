"""Ours: score against the seconds that training took, with and without the teacher's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gdpo.config.figures import Compute
from gdpo.config.layout import Layout, origin
from gdpo.config.scale import Scale
from gdpo.config.tables import Cell
from gdpo.core.provenance import provenance_path
from gdpo.core.result_files import Provenance, TrainLog, read_stored
from gdpo.report.columns import averaged_columns
from gdpo.report.figures import style
from gdpo.report.figures.common import estimate, mean, scored

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

HOLLOW = {"markerfacecolor": "white"}


def available(scale: Scale, shown: Compute) -> bool:
    return bool(_trained(scale, shown))


def _trained(scale: Scale, shown: Compute) -> list[Cell]:
    table = scale.tables.get(shown.table)
    return [cell for cell in table.rows if cell.method != "origin" and not cell.model] if table else []


def _students(scale: Scale, shown: Compute) -> list[str]:
    return scale.student_set(scale.tables[shown.table].students)


def inputs(layout: Layout, shown: Compute) -> list[Path]:
    scale = layout.scale
    runs = [
        run for s in _students(scale, shown) for cell in _trained(scale, shown) for run in layout.cell_runs(s, cell)
    ]
    answered = dict.fromkeys(path for cell in _trained(scale, shown) if (path := layout.response_file(cell)))
    return [*scored(layout, runs), *map(layout.run, runs), *answered]


def data(layout: Layout, shown: Compute) -> list[dict]:
    """A row per student and trained row: mean wall seconds of training, the teacher's seconds of sampling, mean score
    over all benchmarks with its 95% interval, and the untrained student's score."""
    from gdpo.report.scores import Scores

    scale, scores = layout.scale, Scores(layout)
    names = averaged_columns(layout)
    rows = []
    for student in _students(scale, shown):
        before = scores.mean(origin(student), names)
        for cell in _trained(scale, shown):
            runs = layout.cell_runs(student, cell)
            answered = layout.response_file(cell)
            taught = read_stored(provenance_path(answered), Provenance) if answered else {"wall_seconds": 0.0}
            rows.append(
                {
                    "student": scale.model(student).display,
                    "row": cell.row,
                    "seeds": len(runs),
                    "seconds": mean([read_stored(layout.run(run) / "train.json", TrainLog)["seconds"] for run in runs]),
                    "teacher_seconds": taught["wall_seconds"],
                    **estimate("score", scores.bootstrapped_mean(runs, names)),
                    "origin": before,
                }
            )
    return rows


def draw(rows: list[dict], shown: Compute) -> Canvas:
    students, methods = style.distinct(rows, "student"), style.distinct(rows, "row")
    canvas, axes = style.panels(shown, len(students))
    for student, ax in zip(students, axes.flat, strict=True):
        found = [row for row in rows if row["student"] == student and row["score"] is not None]
        for row in found:
            look = style.look(methods.index(row["row"])) | {"linestyle": "none"}
            error = style.spread([row["score"]], [row["score_low"]], [row["score_high"]])
            ax.errorbar(row["seconds"], row["score"], error, capsize=2, elinewidth=0.8, label=row["row"], **look)
            if row["teacher_seconds"]:
                with_teacher = row["seconds"] + row["teacher_seconds"]
                ax.plot([row["seconds"], with_teacher], [row["score"]] * 2, color=look["color"], linewidth=0.6)
                ax.plot(with_teacher, row["score"], **look | HOLLOW)
        if found and found[0]["origin"] is not None:
            ax.axhline(found[0]["origin"], color="black", linestyle="--", linewidth=0.9, label="untrained")
        style.log_axis(ax)
        ax.set(title=student, xlabel="seconds")
    ax.plot([], [], color="black", marker="o", linestyle="none", label="with the teacher's sampling", **HOLLOW)
    axes.flat[0].set_ylabel("score, %")
    style.legend(canvas, axes.flat, 5)
    return canvas
