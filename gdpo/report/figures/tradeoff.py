"""Ours: forgetting and gain against the divergence from the untrained student, over methods and learning rates.

On validation items: rates are judged on them, and test items must not take part in a choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gdpo.config.figures import Tradeoff
from gdpo.config.layout import Layout, Run, origin
from gdpo.config.scale import Scale
from gdpo.config.tables import Study
from gdpo.core.result_files import DriftResult, read_stored
from gdpo.report.figures import style
from gdpo.report.figures.common import estimate, has_validation, mean, scored, validation_benchmarks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    from gdpo.report.scores import Bootstrapped, Scores


def _study(scale: Scale, shown: Tradeoff) -> Study:
    return scale.studies[shown.study]


def available(scale: Scale, shown: Tradeoff) -> bool:
    return shown.study in scale.studies and _study(scale, shown).grid and has_validation(scale)


def inputs(layout: Layout, shown: Tradeoff) -> list[Path]:
    runs = layout.selected_runs(_study(layout.scale, shown))
    return [*scored(layout, runs, "validation"), *map(layout.drift, runs)]


def data(layout: Layout, shown: Tradeoff) -> list[dict]:
    """A row per student, method and learning rate, means over the sweep's seeds: KL in nats per token; gain over the
    untrained student and forgetting, in percent, with 95% intervals; `pareto`: 1 on the student's front.

    Forgetting averages the benchmarks of which the untrained student had any item right: so many are `retained`.
    """
    from gdpo.report.scores import Scores

    scale, scores = layout.scale, Scores(layout, "validation")
    study = _study(scale, shown)
    names = validation_benchmarks(layout)
    rows = []
    for student in scale.student_set(study.students):
        before = origin(student)
        known = [name for name in names if scores.retained_mean(before, before, [name]) is not None]
        found, places = [], []
        for cell in study.rows:
            for rate in scale.sweep.learning_rates:
                runs = [Run(student, cell.trainset, f"{cell.method}~{rate:g}", seed) for seed in scale.sweep.seeds]
                point = {"student": scale.model(student).display, "row": cell.row, "learning_rate": rate}
                point |= {
                    "seeds": len(runs),
                    "kl": mean([read_stored(layout.drift(run), DriftResult)["kl"] for run in runs]),
                }
                gain = estimate("gain", scores.difference(runs, before, names))
                forgetting = estimate("forgetting", _forgetting(scores, runs, before, known))
                places.append((forgetting["forgetting"], gain["gain"]))
                found.append(point | gain | forgetting | {"benchmarks": len(names), "retained": len(known)})
        front = pareto(places)
        rows += [point | {"pareto": int(on)} for point, on in zip(found, front, strict=True)]
    return rows


def _forgetting(scores: Scores, runs: list[Run], before: list[Run], names: list[str]) -> Bootstrapped | None:
    """What is not retained, in percent, with its bootstrap means."""
    found = scores.bootstrapped_retention(runs, before, names)
    return None if found is None else (100 - found[0], 100 - found[1])


def pareto(points: Sequence[tuple[float | None, float | None]]) -> list[bool]:
    """Which (cost, benefit) no other dominates: costs no more, benefits no less, and differs; never one with None."""
    complete = [(cost, benefit) for cost, benefit in points if cost is not None and benefit is not None]
    front = {(x, y) for x, y in complete if not any(c <= x and b >= y and (c, b) != (x, y) for c, b in complete)}
    return [point in front for point in points]


PANELS = (
    ("kl", "forgetting", "KL, nats per token", "forgetting, %"),
    ("kl", "gain", "KL, nats per token", "gain, points"),
    ("forgetting", "gain", "forgetting, %", "gain, points"),
)


def draw(rows: list[dict], shown: Tradeoff) -> Canvas:
    students, methods = style.distinct(rows, "student"), style.distinct(rows, "row")
    canvas, axes = style.panels(shown, len(PANELS), len(students))
    for student, line in zip(students, axes, strict=True):
        found = [row for row in rows if row["student"] == student]
        for ax, (x, y, xlabel, ylabel) in zip(line, PANELS, strict=True):
            for series, method in enumerate(methods):
                _path(ax, [row for row in found if row["row"] == method], x, y, style.look(series), method)
            _front(ax, [row for row in found if row["pareto"]], x, y)
            ax.axhline(0, color="black", linewidth=0.6, zorder=1)
            ax.set(xlabel=xlabel, ylabel=ylabel)
            positive = [row["kl"] for row in found if row["kl"] > 0 and row[y] is not None]
            if x == "kl" and positive and max(positive) > 10 * min(positive):
                style.log_axis(ax)
        if len(students) > 1:
            line[0].set_title(student, loc="left")
    style.legend(canvas, axes.flat, 5)
    return canvas


def _path(ax: Axes, found: list[dict], x: str, y: str, look: style.Look, label: str) -> None:
    """A method's points, joined in order of the learning rate, with the interval of `y` over KL."""
    found = sorted((r for r in found if r[x] is not None and r[y] is not None), key=lambda r: r["learning_rate"])
    xs, ys = [row[x] for row in found], [row[y] for row in found]
    error = None
    if x == "kl":  # the last panel's gains are the middle one's
        error = style.spread(ys, [row[f"{y}_low"] for row in found], [row[f"{y}_high"] for row in found])
    ax.errorbar(xs, ys, error, elinewidth=0.4, linewidth=0.7, markeredgewidth=0, label=label, **look)


def _front(ax: Axes, front: list[dict], x: str, y: str) -> None:
    """Rings around the front's points; where both axes are the front's own, its line, and nothing far from it."""
    front = sorted((row for row in front if row[x] is not None), key=lambda row: row[x])
    xs, ys = [row[x] for row in front], [row[y] for row in front]
    ax.scatter(xs, ys, 42, facecolors="none", edgecolors="black", linewidths=0.8, zorder=4, label="Pareto front")
    if x == "forgetting" and xs:
        ax.step(xs, ys, where="post", color="black", linewidth=0.9, zorder=3)
        width, height = max(xs) - min(xs) + 1, max(ys) - min(ys) + 1
        ax.set(xlim=(min(xs) - width / 4, max(xs) + width), ylim=(min(ys) - height, max(ys) + height / 2))
