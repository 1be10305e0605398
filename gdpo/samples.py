"""One row of a samples file: what a model answered to an item, and how each answer was judged.

An item that was asked once has `output` and `verdict`; one that was sampled several times has `outputs` and `verdicts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gdpo.records import Verdict

RIGHT_BEFORE = 0.5  # ours: an item counts as right before training where at least half of its samples are

Row = Mapping[str, Any]


def outputs(row: Row) -> list[str]:
    """Every answer to the item, in the order in which they were sampled."""
    return list(row["outputs"]) if "outputs" in row else [row["output"]]


def verdicts(row: Row) -> list[Verdict]:
    """The verdict on each of `outputs`."""
    return list(row["verdicts"]) if "verdicts" in row else [row["verdict"]]


def share(row: Row, verdict: Verdict) -> float:
    """The share, in [0, 1], of the item's answers that have this verdict."""
    found = verdicts(row)
    return found.count(verdict) / len(found)


def share_right(row: Row) -> float:
    """The share of the item's answers that are right: its pass@1 as estimated from its samples."""
    return share(row, "right")
