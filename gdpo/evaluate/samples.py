"""One row of a samples file: what a model answered to an item, and how each answer was judged.

An item that was asked once has `output` and `verdict`; one that was sampled several times has `outputs` and `verdicts`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gdpo.core.files import sha256
from gdpo.core.records import Verdict

RIGHT_BEFORE = 0.5  # ours: an item counts as right before training where at least half of its samples are

SampleRow = Mapping[str, Any]
LINE_DIGITS = 4  # ours: of a line's hash; enough to find the line that changed, which the file's whole hash proves


def outputs(row: SampleRow) -> list[str]:
    """Every answer to the item, in the order in which they were sampled."""
    return list(row["outputs"]) if "outputs" in row else [row["output"]]


def verdicts(row: SampleRow) -> list[Verdict]:
    """The verdict on each of `outputs`."""
    return list(row["verdicts"]) if "verdicts" in row else [row["verdict"]]


def share(row: SampleRow, verdict: Verdict) -> float:
    """The share, in [0, 1], of the item's answers that have this verdict."""
    found = verdicts(row)
    return found.count(verdict) / len(found)


def share_right(row: SampleRow) -> float:
    """The share of the item's answers that are right: its pass@1 as estimated from its samples."""
    return share(row, "right")


def score(rows: Iterable[dict[str, Any]]) -> dict[str, float]:
    """A benchmark's score from its items' verdicts alone: share right, share ungradable, n.

    Of items that were asked several times each counts once, by the share of its samples (pass@1); `samples` says how
    many there are of each.
    """
    rows = list(rows)
    n = len(rows)
    right, ungradable = sum(map(share_right, rows)), sum(share(row, "ungradable") for row in rows)
    samples = len(verdicts(rows[0]))
    found = {"score": right / n, "ungradable": ungradable / n, "n": n}
    return {**found, "samples": samples} if samples > 1 else found


def digest(path: Path) -> dict[str, str]:
    """What provenance keeps of a samples file: its `sha256`, and `lines`, the first digits of each line's, in a row."""
    with path.open("rb") as file:
        starts = [hashlib.sha256(line.rstrip(b"\n")).hexdigest()[:LINE_DIGITS] for line in file]
    return {"sha256": sha256(path), "lines": "".join(starts)}


def changed_lines(before: Mapping[str, str], after: Mapping[str, str]) -> list[int]:
    """The numbers, from 1, of the lines by which two digests differ; none where only their count does, or nothing."""
    pairs = zip(*(_split(found["lines"]) for found in (before, after)), strict=False)
    return [number for number, (old, new) in enumerate(pairs, start=1) if old != new]


def _split(lines: str) -> list[str]:
    return [lines[at : at + LINE_DIGITS] for at in range(0, len(lines), LINE_DIGITS)]
