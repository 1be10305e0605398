"""What each run of a world gained and forgot, in points of percent. Pure functions; docs/protocol.md defines them.

Gain: the score change (after - before) on test items of the skills of the run's own training set, each skill by its
share of the set. Forgetting: the fall (before - after) of the average over untaught columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gdpo.core.errors import UserError
from gdpo.report.trial.packing import PackedWorld

HIGHEST = 0.97  # ours: above it nothing can be gained, and nearly nothing told
FEWEST_UNTAUGHT = 3  # ours: a world with fewer untaught columns left is replaced
DIGITS = 9  # of a score that others are compared with: sums in another order differ in the last bits
UNTRAINED = ("none", "origin", "")

Floats = NDArray[np.float64]
Cell = tuple[str, str]  # training set, method
Rule = Literal["own", "best"]


def within_chance(score: float, chance: float, items: int) -> bool:
    """Whether a share right of `items` is no more than guessing gives: below `chance` and two standard errors."""
    return bool(score <= chance + 2 * (chance * (1 - chance) / items) ** 0.5)


def has_room(score: float, chance: float, items: int) -> bool:
    """Whether a column counts in a world, by the untrained student's share right: neither above 97% nor by chance."""
    return score <= HIGHEST and not within_chance(score, chance, items)


@dataclass(frozen=True)
class StudentWorld:
    """One student's runs in one world.

    Attributes:
        world: The world.
        student: The student's name.
    """

    world: PackedWorld
    student: str

    @cached_property
    def _right(self) -> dict[str, Floats]:
        return {name: 100 * values for name, values in self.world.right().items()}

    @cached_property
    def _rows(self) -> dict[tuple[str, str, str, str, int], int]:
        return {key: place for place, key in enumerate(self.world.keys())}

    @cached_property
    def untrained(self) -> int:
        """The place of the untrained student."""
        return self._rows[(self.student, *UNTRAINED, 0)]

    @cached_property
    def kept(self) -> list[str]:
        """The columns that forgetting and averages count: the untrained student stands neither above 97% nor within
        chance there.
        """
        found = []
        for name, entry in self.world.columns.items():
            score = self._right[name][self.untrained] / 100
            if has_room(score, entry["chance"], entry["items"]):
                found.append(name)
        return found

    def of_role(self, role: str) -> list[str]:
        return [name for name in self.kept if self.world.columns[name]["role"] == role]

    @property
    def usable(self) -> bool:
        """Whether enough untaught columns are left to tell forgetting by."""
        return len(self.of_role("untaught")) >= FEWEST_UNTAUGHT

    def row(self, cell: Cell, rate: str, seed: int) -> int:
        """The place of a run. Raises UserError where the world has none."""
        key = (self.student, *cell, rate, seed)
        if key not in self._rows:
            raise UserError(f"world {self.world.seed}", found=f"no run {'/'.join(map(str, key))}", expected="one")
        return self._rows[key]

    def seeds(self) -> list[int]:
        return sorted({key[4] for key in self._rows if key[1] != "none"})

    def has(self, cell: Cell) -> bool:
        return bool(self.rates(cell))

    def cells(self) -> list[Cell]:
        """The student's (training set, method) pairs, in the order in which they are kept."""
        keys = (key for key in self._rows if key[0] == self.student and key[1] != "none")
        return list(dict.fromkeys((key[1], key[2]) for key in keys))

    def rates(self, cell: Cell) -> list[str]:
        """The rates at which a cell was run, ascending."""
        return sorted({key[3] for key in self._rows if key[0] == self.student and key[1:3] == cell}, key=float)

    def change(self, row: int, columns: Sequence[str]) -> Floats:
        """The score change of a run in each of `columns`, (C,)."""
        return np.array([self._right[name][row] - self._right[name][self.untrained] for name in columns])

    def gain(self, row: int, trainset: str) -> float:
        """The score change on the skills of a training set, each by its share; NaN where it has none.

        All of them take part: what a student does not know yet, or knows by chance, is what can be gained.
        """
        shares = self.world.about["shares"][trainset]
        total = sum(shares.values())
        return float(self.change(row, list(shares)) @ np.array(list(shares.values())) / total) if total else np.nan

    def forgetting(self, row: int, without: str | None = None) -> float:
        """The fall of the average over untaught columns; `without`: all but this one."""
        return -float(self.change(row, [name for name in self.of_role("untaught") if name != without]).mean())

    def average(self, row: int, roles: Sequence[str] = ("taught", "untaught"), without: str | None = None) -> float:
        """The score change of the average over the columns of `roles`; `without`: all but this one."""
        names = [name for role in roles for name in self.of_role(role) if name != without]
        return float(self.change(row, names).mean())

    def own_validation(self, row: int, trainset: str) -> float:
        """The score, in percent, on validation items of a set's skills, each by its share; equal shares are equal."""
        shares = self.world.about["shares"][trainset]
        scores = [float(self.world.runs[row][f"validation_{name}"] or "nan") for name in shares]
        return round(100 * float(np.array(scores) @ np.array(list(shares.values())) / sum(shares.values())), DIGITS)

    def validation(self, row: int) -> float:
        """The score, in percent, on validation items: the mean over all kept columns but the format's."""
        names = [name for name in self.kept if self.world.columns[name]["role"] != "format"]
        scores = [float(self.world.runs[row][f"validation_{name}"] or "nan") for name in names]
        return round(100 * float(np.mean(scores)), DIGITS)


def row_by_rule(world: StudentWorld, cell: Cell, rule: Rule) -> int:
    """The run of a cell at the rate that validation items choose (docs/protocol.md); of equal rates the smallest.

    own: items of the skills of its own training set. best: items of all columns.
    """

    def score(row: int) -> float:
        return world.own_validation(row, cell[0]) if rule == "own" else world.validation(row)

    return max((world.row(cell, rate, world.seeds()[0]) for rate in world.rates(cell)), key=score)


def shared_rates(worlds: Sequence[StudentWorld], cells: Sequence[Cell]) -> list[str]:
    """The rates that every one of `cells` was run at in every world, ascending."""
    common = set.intersection(*(set(world.rates(cell)) for world in worlds for cell in cells))
    return sorted(common, key=float)


def points(worlds: Sequence[StudentWorld], cell: Cell, without: str | None = None) -> Floats:
    """(gain, forgetting) of a cell by world and ascending rate, (W, R, 2), at the rates that every world has."""
    found, rates = [], shared_rates(worlds, [cell])
    for world in worlds:
        rows = [world.row(cell, rate, world.seeds()[0]) for rate in rates]
        found.append([(world.gain(row, cell[0]), world.forgetting(row, without)) for row in rows])
    return np.array(found, dtype=float)
