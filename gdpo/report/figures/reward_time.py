"""Ours: validation reward over the seconds of training, online against offline (beside table A3)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gdpo.config.figures import RewardTime
from gdpo.config.layout import Layout
from gdpo.config.scale import Scale
from gdpo.core.result_files import TrainLog, read_stored
from gdpo.report.figures import style
from gdpo.report.figures.common import has_validation, mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def available(scale: Scale, shown: RewardTime) -> bool:
    table = scale.tables.get(shown.table)
    watched = table is not None and table.kind == "comparison"  # of other runs no reward is watched
    return watched and has_validation(scale)


def inputs(layout: Layout, shown: RewardTime) -> list[Path]:
    table = layout.scale.tables[shown.table]
    return [layout.run(run) for run in layout.selected_runs(table) if not run.is_origin]


def data(layout: Layout, shown: RewardTime) -> list[dict]:
    """A row per student, row of the table and step at which all seeds were watched: mean seconds and completions
    sampled so far, mean reward, and the lowest and highest of the seeds."""
    scale = layout.scale
    table = scale.tables[shown.table]
    rows = []
    for student in scale.student_set(table.students):
        for cell in table.rows:
            runs = [run for run in layout.cell_runs(student, cell) if not run.is_origin]
            watched = [read_stored(layout.run(run) / "train.json", TrainLog)["watch"] for run in runs]
            seeds = [{entry["step"]: entry for entry in watch} for watch in watched]
            for step in sorted(set.intersection(*map(set, seeds)) if seeds else []):
                found = [seed[step] for seed in seeds]
                rewards = [entry["reward"] for entry in found]
                row = {"student": scale.model(student).display, "row": cell.row, "step": step, "seeds": len(found)}
                row |= {key: mean([entry[key] for entry in found]) for key in ("seconds", "completions")}
                rows.append(row | {"reward": mean(rewards), "low": min(rewards), "high": max(rewards)})
    return rows


def draw(rows: list[dict], shown: RewardTime) -> Canvas:
    students, titles = style.distinct(rows, "student"), style.distinct(rows, "row")
    canvas, axes = style.panels(shown, len(students), sharey=True)
    for student, ax in zip(students, axes.flat, strict=True):
        ends = []
        for series, title in enumerate(titles):
            found = [row for row in rows if (row["student"], row["row"]) == (student, title)]
            xs, look = [row["seconds"] for row in found], style.look(series)
            ends.append(max(xs, default=0))
            ax.plot(xs, [row["reward"] for row in found], label=title, **look)
            low, high = [row["low"] for row in found], [row["high"] for row in found]
            ax.fill_between(xs, low, high, color=look["color"], alpha=0.2, linewidth=0)
        ax.set(title=student, xlabel="seconds of training")
        if min(ends) and max(ends) > 10 * min(ends):
            style.log_axis(ax)  # the first look comes after the model is loaded, so nothing lies at 0
    axes.flat[0].set_ylabel("validation reward")
    style.legend(canvas, axes.flat, 4)
    return canvas
