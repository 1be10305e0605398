"""Which runs moved at all: items of a run's own skills that it answers otherwise than the untrained student.

A run that did not move says nothing of forgetting. Pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from gdpo.report.trial.effects import StudentWorld
from gdpo.report.trial.packing import RIGHT

COLUMNS = ["method", "rate", "runs", "changed", "median_items", "of_items", "moved", "up", "down"]
LEVEL = 0.05


@dataclass(frozen=True)
class Move:
    """Items of a run's own skills: how many were won, 0->1, and lost, 1->0, of how many."""

    won: int
    lost: int
    items: int

    @property
    def p(self) -> float:
        """Two-sided sign test of won against lost (McNemar's, exact); 1 where nothing changed.

        >>> Move(won=6, lost=0, items=50).p  # 2 / 2^6
        0.03125
        """
        changed = self.won + self.lost
        return float(stats.binomtest(self.won, changed).pvalue) if changed else 1.0


def move(world: StudentWorld, row: int, trainset: str) -> Move:
    """What a run changed of its own training set's skills."""
    own = [np.r_[world.world.of_column(name)] for name in world.world.about["shares"][trainset]]
    places = np.concatenate(own) if own else np.array([], dtype=int)
    before, after = (world.world.codes[place][places] == RIGHT for place in (world.untrained, row))
    return Move(int((~before & after).sum()), int((before & ~after).sum()), len(places))


def rows(worlds: Sequence[StudentWorld]) -> list[dict[str, Any]]:
    """One row a method and rate, over its sets and all worlds.

    `changed`: runs in which an item changed; `median_items`: the median of how many, of `of_items` on average; `moved`:
    runs with a sign test below 0.05, `up` or `down`.
    """
    found: dict[tuple[str, str], list[Move]] = {}
    for world in worlds:
        for trainset, method in world.cells():
            for rate in world.rates((trainset, method)):
                row = world.row((trainset, method), rate, world.seeds()[0])
                found.setdefault((method, rate), []).append(move(world, row, trainset))
    methods = list(dict.fromkeys(method for method, _ in found))
    ordered = sorted(found, key=lambda key: (methods.index(key[0]), float(key[1])))
    return [_row(method, rate, found[method, rate]) for method, rate in ordered]


def _row(method: str, rate: str, moves: Sequence[Move]) -> dict[str, Any]:
    moved = [one for one in moves if one.p < LEVEL]
    return {
        "method": method, "rate": rate, "runs": len(moves),
        "changed": sum(one.won + one.lost > 0 for one in moves),
        "median_items": f"{np.median([one.won + one.lost for one in moves]):g}",
        "of_items": f"{np.mean([one.items for one in moves]):.0f}",
        "moved": len(moved),
        "up": sum(one.won > one.lost for one in moved), "down": sum(one.won < one.lost for one in moved),
    }  # fmt: skip
