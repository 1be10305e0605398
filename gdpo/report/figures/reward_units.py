"""Rewards of the teacher's completions by how many knowledge units a question needs (paper, A Fig. 4)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from gdpo.config.figures import RewardUnits
from gdpo.config.layout import Layout
from gdpo.config.scale import Scale
from gdpo.core.records import Group, read_records
from gdpo.report.figures import style
from gdpo.report.figures.common import questions, unit_bin, unit_bins

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def available(scale: Scale, shown: RewardUnits) -> bool:
    found = scale.trainsets.get(shown.trainset)
    return found is not None and found.select != "import"  # imported questions have no units


def inputs(layout: Layout, shown: RewardUnits) -> list[Path]:
    trainset = shown.trainset
    return [layout.trainset(trainset), layout.groups(trainset)]


def data(layout: Layout, shown: RewardUnits) -> list[dict]:
    """A row `what: mean` a number of units: mean reward with its 95% bootstrap interval over questions; and a row
    `what: bin` for each bin of reward that has completions: its middle, how many, and their share."""
    units = {question.id: len(question.units) for question in questions(layout, shown.trainset)}
    by_bin: dict[str, list[list[float]]] = {key: [] for key in unit_bins(shown.most_units)}
    for group in read_records(layout.groups(shown.trainset), Group):
        if units.get(group.id):
            by_bin[unit_bin(units[group.id], shown.most_units)].append(group.rewards)
    empty = dict.fromkeys(("what", "units", "questions", "completions", "reward", "share", "low", "high"))
    rows = []
    for key, rewards in by_bin.items():
        if rewards:
            of_bin = empty | {"units": key, "questions": len(rewards)}
            rows += [of_bin | row for row in described(rewards, shown.bin, layout.scale)]
    return rows


def described(rewards: list[list[float]], width: float, scale: Scale) -> list[dict]:
    """The mean of one number of units with its interval, and how its rewards fall into bins of `width`.

    Questions are redrawn whole, with all of their completions, which are alike; one question alone has no interval.
    """
    import numpy as np
    from scipy.stats import bootstrap

    sums, sizes = np.array([sum(group) for group in rewards]), np.array([len(group) for group in rewards])
    low = high = None
    if len(rewards) > 1:
        low, high = bootstrap(
            (sums, sizes), lambda a, b, axis: a.sum(axis) / b.sum(axis), paired=True, vectorized=True,
            method="percentile", n_resamples=scale.bootstrap_draws, batch=100,
            rng=np.random.default_rng(scale.bootstrap_seed),
        ).confidence_interval  # fmt: skip
    total = int(sizes.sum())
    mean = {"what": "mean", "completions": total, "reward": float(sums.sum() / total)}
    counts = Counter(round(reward / width) for group in rewards for reward in group)
    return [mean | {"low": low, "high": high}] + [
        {"what": "bin", "reward": place * width, "completions": count, "share": count / total}
        for place, count in sorted(counts.items())
    ]


def draw(rows: list[dict], shown: RewardUnits) -> Canvas:
    titles = style.distinct(rows, "units")
    canvas, ((ax,),) = style.panels(shown, 1)
    widest = max(row["share"] for row in rows if row["what"] == "bin")
    for row in rows:
        at = titles.index(row["units"])
        if row["what"] == "bin":
            width = 0.85 * row["share"] / widest
            ax.barh(row["reward"], width, shown.bin * 0.9, left=at - width / 2, color=style.look(0)["color"])
        else:
            error = None if row["low"] is None else style.spread([row["reward"]], [row["low"]], [row["high"]])
            look = {
                "color": "black",
                "markerfacecolor": "white",
                "capsize": 2,
                "markersize": 3,
                "elinewidth": 1,
                "zorder": 3,
            }
            ax.errorbar(at, row["reward"], error, fmt="o", **look)
    for at, title in enumerate(titles):
        reached = [row["reward"] for row in rows if row["units"] == title and row["what"] == "bin"]
        ax.plot([at, at], [min(reached), max(reached)], color=style.look(0)["color"], linewidth=0.6)
    counts = [next(row["questions"] for row in rows if row["units"] == title) for title in titles]
    ax.set_xticks(range(len(titles)), [f"{title}\n(n = {count})" for title, count in zip(titles, counts, strict=True)])
    ax.set(xlabel="knowledge units (questions)", ylabel="reward", xlim=(-0.6, len(titles) - 0.4))
    ax.grid(False, axis="x")
    return canvas
