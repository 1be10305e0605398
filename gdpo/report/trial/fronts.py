"""The figure of the trial: forgetting against gain by training set, one point a learning rate, means over worlds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gdpo.config.scale import Scale
from gdpo.report.figures import style
from gdpo.report.figures.settings import load
from gdpo.report.trial.effects import StudentWorld, points
from gdpo.report.world_statistics import GRID, least_forgetting, t_estimate

SHOWN = ("sft", "gdpo-literal", "gdpo", "grpo")  # at most four series a panel
HEIGHT = 2.1  # inches of a row of panels
A_ROW = 3  # panels
ROOM = 0.15  # beside the outermost means, of their range


def draw(scale: Scale, worlds: Sequence[StudentWorld], sets: Sequence[str], numbers: Path) -> list[Path]:
    """Draw one panel a training set, as PDF and PNG beside the path `numbers`."""
    with style.context():
        from matplotlib.figure import Figure as Canvas

        rows = -(-len(sets) // A_ROW)
        canvas = Canvas(figsize=(load().style.widths["page"], HEIGHT * rows), layout="constrained")
        axes = canvas.subplots(rows, A_ROW, squeeze=False)
        for ax in axes.flat[len(sets) :]:
            ax.set_visible(False)
        for name, ax in zip(sets, axes.flat, strict=False):
            shown = [(series, method) for series, method in enumerate(SHOWN) if worlds[0].has((name, method))]
            found = {method: points(worlds, (name, method)) for _, method in shown}
            for series, method in shown:
                _series(ax, found[method], scale.methods[method].display, style.look(series))
            _limit(ax, np.concatenate([entry.mean(axis=0) for entry in found.values()]))
            ax.axhline(0, color="black", linewidth=0.6, zorder=1)
            ax.axvline(0, color="black", linewidth=0.6, zorder=1)
            ax.set_title(scale.trainset(name).display, loc="left")
            ax.set(xlabel="gain on its own skills, points", ylabel="forgetting, points")
        style.legend(canvas, axes.flat[: len(sets)], len(SHOWN))
        return style.save(canvas, numbers, f"{scale.scale}, {worlds[0].student}, {len(worlds)} worlds")


def _limit(ax: Any, means: np.ndarray) -> None:
    """Axes that hold every mean and the untrained student; intervals of few worlds may reach beyond them."""
    low, high = np.minimum(means.min(axis=0), 0), np.maximum(means.max(axis=0), 0)
    room = ROOM * (high - low)
    ax.set(xlim=(low[0] - room[0], high[0] + room[0]), ylim=(low[1] - room[1], high[1] + room[1]))


def _series(ax: Any, found: np.ndarray, label: str, look: style.Look) -> None:
    """A method's rates with t intervals over worlds, and its front: the least forgetting at each gain."""
    means = found.mean(axis=0)
    spreads = [[t_estimate(found[:, rate, part]) for rate in range(found.shape[1])] for part in (0, 1)]
    halves = [[entry.high - entry.mean if len(found) > 1 else 0.0 for entry in part] for part in spreads]
    plain = {key: value for key, value in look.items() if key != "linestyle"}
    ax.errorbar(*means.T, yerr=halves[1], xerr=halves[0], elinewidth=0.4, linestyle="none", label=label, **plain)
    top = max(0.0, float(means[:, 0].max()))
    gains = top * np.linspace(0, 1, GRID)
    ax.plot(gains, least_forgetting(means, gains), color=look["color"], linewidth=1.0, zorder=3)
