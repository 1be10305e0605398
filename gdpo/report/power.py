"""`gdpo power`: what the paper's own comparisons could have shown, from item counts and printed scores alone. Ours.

A printed score is a share of items. Two rows are scored on the same items, each by one training run, so the difference
of two scores has at least the standard error that its items give it. From it follows the smallest difference that a
test at level 0.05 finds with a power of 80%, the *smallest detectable difference* (Simonsohn, Small telescopes, 2015;
Miller, Adding error bars to evals, arXiv 2411.00640). What other training seeds would change comes on top, and nothing
printed tells how much.

Model. An item has a difficulty. TAU is the share of a verdict's variance that lies between items, and RHO the
correlation of two rows' difficulties, so that one sample a row gives verdicts that correlate by TAU * RHO. With k
samples of each of n items, and v = (p_a (1 - p_a) + p_b (1 - p_b)) / 2, the variance of the difference is

    2 v (TAU (1 - RHO) + (1 - TAU) / k) / n.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

from gdpo.core.markdown import table_lines
from gdpo.report.published import AVERAGES, PublishedRow

# Ours, measured on two public sets of responses. Verdicts of Qwen2.5-Math, eight samples of each of 100 problems of
# MATH, have 0.72 of their variance between problems. Greedy verdicts of four GPT-3 solvers of one family on the 1,319
# items of GSM8K correlate by 0.30 to 0.46. Rows trained from one model may be more alike; 0.5 is assumed.
TAU = 0.72
VERDICT_CORRELATION = 0.5
RHO = VERDICT_CORRELATION / TAU
Z_LEVEL = 1.959964  # the normal quantile of 0.975: a two-sided test at 0.05
Z_POWER = 0.841621  # the normal quantile of 0.8

ORIGIN = "Origin"
# The row of each table that the paper argues for, and compares with every other.
METHOD = {"A1+A2": "", "A5+A6": "GDPO", "A7+A8": "GDPO", "A9+A10": "MetaKL", "A11+A12": "MetaGDPO"}


@dataclass(frozen=True)
class Items:
    """How many items a benchmark has, and how many samples of each are averaged."""

    items: int
    samples: int
    source: str


@dataclass(frozen=True)
class Comparison:
    """The difference of an average, row `a` minus row `b`, in points, with its standard errors.

    `difference` is of the averages recomputed from the printed cells. `unrelated` is the standard error where the two
    rows' verdicts have nothing in common and an item's samples are all alike, an upper bound; `related` where they
    correlate as measured.
    """

    table: str
    model: str
    a: str
    b: str
    average: str
    difference: float
    related: float
    unrelated: float

    @cached_property
    def detectable(self) -> float:
        """The smallest difference found with 80% power, in points, by the smaller standard error."""
        return (Z_LEVEL + Z_POWER) * self.related

    @property
    def above(self) -> bool:
        """Whether the printed difference is at least the smallest detectable one."""
        return abs(self.difference) >= self.detectable

    @property
    def significant(self) -> bool:
        """Whether the difference exceeds what items alone make of nothing in 19 of 20 cases."""
        return abs(self.difference) > Z_LEVEL * self.related


def item_counts() -> dict[str, Items]:
    """Column -> its items, as data/published_items.csv has them with where each count comes from."""
    import csv

    with (files("gdpo.report") / "data" / "published_items.csv").open(encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return {row["column"]: Items(int(row["items"]), int(row["samples"]), row["source"]) for row in rows}


def difference_variance(a: float, b: float, items: int, samples: int, tau: float = TAU, rho: float = RHO) -> float:
    """Variance of the difference of two scores, shares `a` and `b` of the same items.

    >>> round(difference_variance(0.5, 0.5, 100, 1, tau=1.0, rho=0.0), 6)  # 2 * 0.25 / 100
    0.005
    """
    v = (a * (1 - a) + b * (1 - b)) / 2
    return 2 * v * (tau * (1 - rho) + (1 - tau) / samples) / items


def comparisons(rows: Sequence[PublishedRow], items: Mapping[str, Items]) -> list[Comparison]:
    """Each average of each pair of rows that the paper compares.

    These are every row with Origin, and the method that its table argues for with every other row.
    """
    found = []
    for table, method in METHOD.items():
        for model in dict.fromkeys(row.model for row in rows if row.table == table):
            by_name = {row.row: row for row in rows if row.table == table and row.model == model}
            others = [name for name in by_name if name not in (ORIGIN, method)]
            pairs = [(name, ORIGIN) for name in by_name if name != ORIGIN]
            pairs += [(method, name) for name in others if method]
            found += [_compare(by_name[a], by_name[b], average, items) for a, b in pairs for average in AVERAGES]
    return found


def _compare(a: PublishedRow, b: PublishedRow, average: str, items: Mapping[str, Items]) -> Comparison:
    columns = AVERAGES[average]
    shares = [(float(a.cells[c]) / 100, float(b.cells[c]) / 100, items[c]) for c in columns]

    def error(tau: float, rho: float) -> float:
        total = sum(difference_variance(p, q, n.items, n.samples, tau, rho) for p, q, n in shares)
        return 100 * math.sqrt(total) / len(columns)

    difference = float(sum(a.cells[c] - b.cells[c] for c in columns)) / len(columns)
    return Comparison(a.table, a.model, a.row, b.row, average, difference, error(TAU, RHO), error(tau=1.0, rho=0.0))


COLUMNS = ["table", "model", "a", "b", "average", "difference", "se_related", "se_unrelated", "detectable", "above"]
HEADS = ["table", "model", "a - b", "difference", "standard error", "detectable"]


def csv_rows(found: Sequence[Comparison]) -> list[dict[str, str]]:
    """One row a comparison, in points."""
    return [
        {"table": c.table, "model": c.model, "a": c.a, "b": c.b, "average": c.average}
        | {"difference": f"{c.difference:+.2f}", "se_related": f"{c.related:.2f}", "se_unrelated": f"{c.unrelated:.2f}"}
        | {"detectable": f"{c.detectable:.2f}", "above": "yes" if c.above else "no"}
        for c in found
    ]


def markdown(found: Sequence[Comparison]) -> str:
    """The overall averages' comparisons, for people, and what all of them come to."""
    overall = [c for c in found if c.average == "overall_avg"]
    small = [c for c in overall if not c.above]
    lines = [
        "# What the published comparisons could have shown",
        "",
        f"The paper compares {len(overall)} pairs of rows by their overall average. {len(small)} of the differences "
        "are below what their items could have shown with a power of 80%. "
        f"{sum(not c.significant for c in overall)} are within 1.96 standard errors of 0. With the averages by domain "
        f"there are {len(found)} comparisons: {sum(not c.above for c in found)} are below what their items could "
        f"have shown, {sum(not c.significant for c in found)} within 1.96 standard errors of 0.",
        "",
        "Points. Standard error: where two rows' verdicts on an item correlate by "
        f"{VERDICT_CORRELATION} and {TAU} of a verdict's variance lies between items, to where they have nothing in "
        "common. Detectable: the smallest difference found with 80% power at level 0.05, by the smaller standard "
        "error. Every row is one training run: what another training seed would change comes on top.",
        "",
        *table_lines(HEADS, [_cells(c) for c in overall]),
        "",
    ]
    return "\n".join(lines)


def _cells(c: Comparison) -> list[str]:
    errors = f"{c.related:.2f} to {c.unrelated:.2f}"
    return [c.table, c.model, f"{c.a} - {c.b}", f"{c.difference:+.2f}", errors, f"{c.detectable:.2f}"]
