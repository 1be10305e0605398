"""Worlds of a trial whose scores are given, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gdpo.report.trial.effects import StudentWorld
from gdpo.report.trial.packing import RIGHT, WRONG, PackedWorld

ITEMS = 10
COLUMNS = {
    "add": {"items": ITEMS, "role": "taught", "domain": "math", "chance": 0.0},
    "take": {"items": ITEMS, "role": "taught", "domain": "math", "chance": 0.0},
    "one": {"items": ITEMS, "role": "untaught", "domain": "general", "chance": 0.0},
    "two": {"items": ITEMS, "role": "untaught", "domain": "general", "chance": 0.0},
    "three": {"items": ITEMS, "role": "untaught", "domain": "general", "chance": 0.0},
    "form": {"items": ITEMS, "role": "format", "domain": "general", "chance": 0.0},
}
UNTRAINED = ("s", "none", "origin", "")
BEFORE = (5, 5, 8, 8, 8, 5)  # right of ten, by column
Counts = Sequence[int]
Cells = Mapping[tuple[str, str, str], Counts]  # (training set, method, rate) -> right of ten, by column


def world(
    cells: Cells,
    seed: int = 1,
    before: Counts = BEFORE,
    shares: Mapping[str, Mapping[str, float]] | None = None,
    student: str = "s",
) -> StudentWorld:
    """A world with one student; every set teaches `add` alone unless `shares` says otherwise."""
    keys = {(student, *UNTRAINED[1:]): before} | {(student, *key): counts for key, counts in cells.items()}
    runs = [
        {"student": key[0], "trainset": key[1], "method": key[2], "rate": key[3], "seed": "0"}
        | dict.fromkeys(("steps", "kl_forward", "kl_reverse", "nll_text"), "")
        | {"samples": "x"}
        | {f"validation_{name}": str(n / ITEMS) for name, n in zip(COLUMNS, counts, strict=True)}
        | {f"nll_{name}": "" for name in COLUMNS}
        for key, counts in keys.items()
    ]
    sets = {key[0] for key in cells}
    about = {"world": seed, "columns": COLUMNS, "shares": dict(shares or {name: {"add": 1.0} for name in sets})}
    codes = np.array([[RIGHT if i < n else WRONG for n in counts for i in range(ITEMS)] for counts in keys.values()])
    return StudentWorld(PackedWorld(about, runs, codes.astype(np.uint8)), student)
