"""What the worlds predict of real students: which of two rows gains more, and which forgets more. Pure functions.

The rows are the headline rows of a trial of real students (docs/protocol.md), each at its fixed rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from gdpo.report.trial.answers import MAIN_SETS, METAGDPO, Choose, Floats, Rates, fixed
from gdpo.report.trial.effects import Cell, StudentWorld
from gdpo.report.world_statistics import t_estimate

ROWS: Sequence[Cell] = (*((name, "sft") for name in MAIN_SETS), METAGDPO, ("metakl", "gdpo"))
COLUMNS = ["measure", "first", "second", "difference", "low", "high", "predicted", "worlds"]


def predictions(worlds: Sequence[StudentWorld], rates: Rates) -> list[dict[str, Any]]:
    """One row a measure and pair of rows: the first's less the second's, in points, with its 95% t interval.

    `predicted`: the row that has more; empty where the interval holds 0. Our reading, `gdpo`, has the rate of the
    objective as printed.
    """
    choose = fixed({"gdpo": rates["gdpo-literal"], **rates})
    found = []
    for measure, values in _measured(worlds, choose):
        for first, second in combinations(values, 2):
            difference = t_estimate(values[first] - values[second])
            sure = difference.low > 0 or difference.high < 0
            names = ["/".join(first), "/".join(second)]
            found.append(
                {"measure": measure, "first": names[0], "second": names[1], "worlds": difference.worlds}
                | {part: f"{getattr(difference, part):.2f}" for part in ("low", "high")}
                | {"difference": f"{difference.mean:.2f}", "predicted": names[difference.mean < 0] if sure else ""}
            )
    return found


def _measured(worlds: Sequence[StudentWorld], choose: Choose) -> Iterator[tuple[str, dict[Cell, Floats]]]:
    """(measure, row -> one number a world), of the rows that every world has."""
    cells = [cell for cell in ROWS if all(world.has(cell) for world in worlds)]
    rows = {cell: [(world, choose(world, cell)) for world in worlds] for cell in cells}
    yield "gain", {cell: np.array([w.gain(row, cell[0]) for w, row in rows[cell]]) for cell in cells}
    yield "forgetting", {cell: np.array([w.forgetting(row) for w, row in rows[cell]]) for cell in cells}
