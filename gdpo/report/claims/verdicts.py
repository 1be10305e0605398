"""The result of a claim's test, and the verdict on its interval."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from gdpo.report.claims.schema import Range

Verdict = Literal["supported", "contradicted", "inconclusive", "not testable"]


@dataclass(frozen=True)
class Part:
    """One student's share of an effect, or one point of it."""

    name: str
    effect: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Finding:
    """An effect with its 95% interval, or without one where a single value was measured.

    p: two-sided, against the nearest bound of the claimed range; for `best` and `retained`, against 0. n: how many
    items, questions or pairs of runs it is computed from.
    """

    effect: float
    low: float | None
    high: float | None
    unit: str
    n: int | None = None
    p: float | None = None
    parts: tuple[Part, ...] = ()
    note: str = ""


def judge(low: float | None, high: float | None, claimed: Range, refuted: Range | None = None) -> Verdict:
    """Supported where the whole interval lies within `claimed`, contradicted where it lies wholly beyond it, or within
    `refuted` where that is given; else, and without an interval, inconclusive. Bounds belong to neither side."""
    if low is None or high is None:
        return "inconclusive"
    below, above = (-inf, claimed[0]), (claimed[1], inf)
    if any(_within(low, high, side) for side in ([refuted] if refuted else [below, above])):
        return "contradicted"
    return "supported" if _within(low, high, claimed) else "inconclusive"


def _within(low: float, high: float, side: Range) -> bool:
    return (side[0] < low or side[0] == -inf) and (high < side[1] or side[1] == inf)  # an interval may be open


def range_text(claimed: Range) -> str:
    """The claimed range as a table shows it: '> 0', '< 0.5', 'within -1 and 1'."""
    low, high = claimed
    if high == inf:
        return f"> {low:g}"
    return f"< {high:g}" if low == -inf else f"within {low:g} and {high:g}"
