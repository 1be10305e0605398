"""The effect of a claim in the paper's printed numbers: a point, since it prints no interval.

Averages are recomputed from the printed cells, since some printed averages do not follow (gdpo.report.audit).
"""

from __future__ import annotations

from collections.abc import Sequence

from gdpo.core.errors import UserError, suggest
from gdpo.report.claims.schema import (
    Claim,
    Columns,
    Correlation,
    Derived,
    Interaction,
    Measure,
    PublishedRows,
    Retained,
)
from gdpo.report.published import AVERAGES, GENERAL, MATH, SAFETY, PublishedRow


def effect(claim: Claim, printed: Sequence[PublishedRow]) -> float | None:
    """The claim's effect in the rows that it names under `printed`, in points; None where it names none.

    The mean over the table's models of a minus b; for `best` minus the best other row; for `retained` the largest
    fall of any column. Raises UserError where the paper has no such table or row.
    """
    if isinstance(claim, Correlation | Measure | Derived) or claim.printed is None:
        return None
    if isinstance(claim, Interaction):
        assert claim.printed_against is not None  # beside `printed`, as the claim itself has checked
        here, there = (_change(rows, claim.columns, printed) for rows in (claim.printed, claim.printed_against))
        return here - there
    if isinstance(claim, Retained):
        columns = (*MATH, *GENERAL, *SAFETY)
        pairs = _pairs(claim.printed, claim.printed.b, printed)
        return min(float(a.cells[column] - b.cells[column]) for a, b in pairs for column in columns)
    return _change(claim.printed, claim.columns, printed)


def _change(rows: PublishedRows, columns: Columns, printed: Sequence[PublishedRow]) -> float:
    names = AVERAGES[f"{columns}_avg"]

    def mean(other: str) -> float:
        pairs = _pairs(rows, other, printed)
        changes = [float(sum(a.cells[n] - b.cells[n] for n in names)) / len(names) for a, b in pairs]
        return sum(changes) / len(changes)

    return min(mean(other) for other in rows.others or [rows.b])


def _pairs(rows: PublishedRows, other: str, printed: Sequence[PublishedRow]) -> list[tuple[PublishedRow, PublishedRow]]:
    """(row a, row `other`) of each of the table's models."""
    found = {(p.model, p.row): p for p in printed if p.table == rows.table}
    for name, known in (
        (rows.table, {p.table for p in printed}),
        *((r, {k[1] for k in found}) for r in (rows.a, other)),
    ):
        if name not in known:
            raise UserError(path="claims.yaml", key="printed", found=f"'{name}'", hint=suggest(name, known))
    return [(found[model, rows.a], found[model, other]) for model in dict.fromkeys(model for model, _ in found)]
