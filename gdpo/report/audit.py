"""`gdpo audit`: whether the published averages follow from their columns, and rows of one name agree.

Ours. Each average of the appendix (math 6, general 3, safety 4, overall 13 columns) is recomputed exactly from its row.
Cells and averages are printed to two decimals. A mean of cells that are each off by at most 0.005 is off by at most
0.005, and printing it adds at most 0.005: a difference above 0.01 cannot be rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from gdpo.core.markdown import table_lines
from gdpo.report.published import AVERAGES, PublishedRow

HALF_DIGIT = Decimal("0.005")
TOLERANCE = 2 * HALF_DIGIT
# The row that is one and the same run elsewhere under another name: MetaKL under GDPO, GDPO on MetaKL.
SAME_RUN = {("A9+A10", "MetaKL"): "GDPO"}


@dataclass(frozen=True)
class Average:
    """A printed average, and the mean of its columns."""

    table: str
    model: str
    row: str
    column: str
    printed: Decimal
    recomputed: Decimal

    @property
    def difference(self) -> Decimal:
        return self.printed - self.recomputed

    @property
    def follows(self) -> bool:
        """Whether rounding alone could make the difference."""
        return abs(self.difference) <= TOLERANCE

    @property
    def near(self) -> bool:
        """Whether it follows only because its cells are rounded too: above half a digit, within the tolerance."""
        return self.follows and abs(self.difference) > HALF_DIGIT


@dataclass(frozen=True)
class Disagreement:
    """One cell of a row that two tables print, and print differently."""

    model: str
    row: str
    column: str
    tables: tuple[str, str]
    printed: tuple[Decimal, Decimal]


def averages(rows: Sequence[PublishedRow]) -> list[Average]:
    """Each printed average with the mean of its columns."""
    return [
        Average(row.table, row.model, row.row, name, row.cells[name], _mean([row.cells[c] for c in columns]))
        for row in rows
        for name, columns in AVERAGES.items()
    ]


def _mean(cells: Sequence[Decimal]) -> Decimal:
    return sum(cells, Decimal()) / len(cells)


def shared(rows: Sequence[PublishedRow]) -> dict[tuple[str, str], list[PublishedRow]]:
    """(model, row) -> its rows in every table that prints it, for those that more than one does."""
    found: dict[tuple[str, str], list[PublishedRow]] = {}
    for row in rows:
        found.setdefault((row.model, SAME_RUN.get((row.table, row.row), row.row)), []).append(row)
    return {name: same for name, same in found.items() if len(same) > 1}


def disagreements(rows: Sequence[PublishedRow]) -> list[Disagreement]:
    """Cells that differ between tables, each pair of neighbouring tables once."""
    return [
        Disagreement(model, name, column, (a.table, b.table), (a.cells[column], b.cells[column]))
        for (model, name), same in shared(rows).items()
        for a, b in pairwise(same)
        for column in a.cells
        if a.cells[column] != b.cells[column]
    ]


HEADS = ["table", "model", "row", "average", "printed", "recomputed", "difference"]
COLUMNS = ["table", "model", "row", "column", "printed", "recomputed", "difference", "follows"]


def csv_rows(found: Sequence[Average]) -> list[dict[str, str]]:
    """One row a printed average."""
    return [
        {"table": a.table, "model": a.model, "row": a.row, "column": a.column, "printed": str(a.printed)}
        | {"recomputed": f"{a.recomputed:.4f}", "difference": f"{a.difference:+.4f}"}
        | {"follows": "yes" if a.follows else "no"}
        for a in found
    ]


def markdown(rows: Sequence[PublishedRow]) -> str:
    """What follows, what does not, and which rows of one name differ, for people."""
    found, differing, same = averages(rows), disagreements(rows), shared(rows)
    wrong, near = [a for a in found if not a.follows], [a for a in found if a.near]
    lines = [
        "# Audit of the published numbers (arXiv 2511.12113, appendix)",
        "",
        f"{len(found)} averages recomputed from their own columns; {len(wrong)} do not follow. A difference of up to "
        f"{TOLERANCE} is rounding: half a digit of the cells' mean and half a digit of the average itself. "
        f"{_others(near)}",
        "",
        *table_lines(HEADS, [_cells(average) for average in wrong]),
        "",
        f"Rows that more than one table prints: {len(same)}; with different numbers: "
        f"{len({(d.model, d.row) for d in differing})}.",
        "",
    ]
    if differing:
        cells = [
            [d.model, d.row, d.column.removesuffix("_avg"), " and ".join(d.tables), _both(d.printed)] for d in differing
        ]
        lines += [*table_lines(["model", "row", "column", "tables", "printed"], cells), ""]
    return "\n".join(lines)


def _cells(average: Average) -> list[str]:
    name = average.column.removesuffix("_avg")
    numbers = [str(average.printed), f"{average.recomputed:.2f}", f"{average.difference:+.2f}"]
    return [average.table, average.model, average.row, name, *numbers]


def _both(printed: tuple[Decimal, Decimal]) -> str:
    return f"{printed[0]} and {printed[1]}"


def _others(near: Sequence[Average]) -> str:
    if not near:
        return f"None of the others needs more than {HALF_DIGIT}: they were computed from the printed cells."
    return f"{len(near)} of the others need more than {HALF_DIGIT}."
