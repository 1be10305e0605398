"""How often a 95% interval of a difference holds the truth, by the number of worlds and where the variance lies.

    python docs/protocol/coverage.py

A trial is simulated many times: each world's difference of two rows has a part of its own, `share` of the variance, and
the noise of 400 items, each won, lost or alike. Three intervals are compared: Student's t over worlds
(`gdpo.report.world_statistics.t_estimate`), the percentile bootstrap over worlds, and the percentile bootstrap that
resamples worlds and items (`gdpo.report.bootstrap`). Writes `coverage.csv` and draws `coverage.png`.
"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
import numpy as np

from gdpo.core.files import write_csv
from gdpo.report.bootstrap import bootstrap_means, interval
from gdpo.report.world_statistics import t_estimate

HERE = Path(__file__).parent
WORLDS = (3, 6, 12)
SHARES = (0.0, 0.5, 0.9)
TRIALS = 2000
DRAWS = 1000
ITEMS = 400
MOVED = 0.2  # of the items are won, and as many lost, where nothing differs
EFFECT = 0.3  # in standard deviations of one world's difference
SEED = 0
KINDS = ("t over worlds", "bootstrap over worlds", "bootstrap over worlds and items")
MARKERS = ("o", "s", "^")


def verdicts(rng: np.random.Generator, worlds: int, share: float) -> tuple[np.ndarray, float]:
    """Differences by world and item, (worlds, ITEMS), each -1, 0 or 1, and the true mean."""
    noise = math.sqrt(2 * MOVED / ITEMS)  # of a world's mean over its items; the whole sd follows from the share
    whole = noise / math.sqrt(1 - share)
    effect = EFFECT * whole
    own = rng.normal(0, math.sqrt(share) * whole, size=worlds) + effect
    won = np.clip(MOVED + own / 2, 0, 1)[:, None]
    lost = np.clip(MOVED - own / 2, 0, 1)[:, None]
    drawn = rng.uniform(size=(worlds, ITEMS))
    return np.where(drawn < won, 1.0, np.where(drawn > 1 - lost, -1.0, 0.0)), effect


def covered(rng: np.random.Generator, worlds: int, share: float, trial: int) -> list[bool]:
    """Whether each kind of interval holds the true effect in one trial."""
    items, effect = verdicts(rng, worlds, share)
    means = items.mean(axis=1)
    found = t_estimate(means)
    drawn = means[rng.integers(worlds, size=(DRAWS, worlds))].mean(axis=1)
    both = bootstrap_means(items, DRAWS, trial, "simulated")
    return [low <= effect <= high for low, high in ((found.low, found.high), interval(drawn), interval(both))]


def main() -> None:
    rows = []
    for worlds in WORLDS:
        for share in SHARES:
            rng = np.random.default_rng([SEED, worlds, round(100 * share)])
            shares = np.mean([covered(rng, worlds, share, trial) for trial in range(TRIALS)], axis=0)
            for kind, coverage in zip(KINDS, shares, strict=True):
                rows.append({"worlds": worlds, "share_between_worlds": share, "interval": kind})
                rows[-1]["coverage"] = f"{coverage:.3f}"
    write_csv(HERE / "coverage.csv", list(rows[0]), rows)
    draw(rows)


def draw(rows: list[dict]) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(SHARES), figsize=(9, 3), sharey=True, layout="constrained")
    for axis, share in zip(axes, SHARES, strict=True):
        for kind, marker in zip(KINDS, MARKERS, strict=True):
            found = [row for row in rows if (row["share_between_worlds"], row["interval"]) == (share, kind)]
            heights = [float(row["coverage"]) for row in found]
            errors = [1.96 * math.sqrt(max(h * (1 - h), 1e-9) / TRIALS) for h in heights]
            axis.errorbar([row["worlds"] for row in found], heights, errors, marker=marker, label=kind, capsize=2)
        axis.axhline(0.95, color="black", linewidth=0.8, linestyle=":")
        axis.set(title=f"{share:.0%} of the variance\nbetween worlds", xlabel="worlds", xticks=WORLDS, ylim=(0.5, 1))
    axes[0].set_ylabel("share of intervals\nthat hold the truth")
    axes[-1].legend(fontsize=7, loc="lower right")
    figure.savefig(HERE / "coverage.png", dpi=150, metadata={"Software": None})


if __name__ == "__main__":
    main()
