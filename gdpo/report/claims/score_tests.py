"""Tests of claims about scores: paired differences averaged over students, by the bootstrap of the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import log2

import numpy as np

from gdpo.config.layout import Layout, Run, origin
from gdpo.config.scale import Scale
from gdpo.config.tables import Cell
from gdpo.core.errors import UserError
from gdpo.core.files import read_jsonl
from gdpo.report.bootstrap import LEVEL, holm, interval, p_value
from gdpo.report.claims import claim_runs
from gdpo.report.claims.claim_runs import NotTestable
from gdpo.report.claims.schema import (
    Best,
    Difference,
    Equivalence,
    Interaction,
    Range,
    Retained,
    ScoreClaim,
    Selection,
    Trend,
)
from gdpo.report.claims.verdicts import Finding, Part
from gdpo.report.columns import averaged_columns
from gdpo.report.scores import Bootstrapped, Scores

POINTS = "points"
MIN_POINTS = 3  # a line through two points is no trend


@dataclass(frozen=True)
class Change:
    """A difference in points with its bootstrap draws, (draws,), and its number of items; `parts` are its students'."""

    effect: float
    draws: np.ndarray
    n: int
    parts: tuple[Part, ...] = ()
    note: str = ""


def difference(scores: Scores, claim: Difference | Equivalence) -> Finding:
    """The mean over students of a minus b."""
    names = claim_runs.students(scores.layout, claim)
    return _finding(_change(scores, claim, names, claim.a, claim.b), claim.claimed)


def best(scores: Scores, claim: Best) -> Finding:
    """a minus the best of the others, at that minimum; parts name each other one.

    The interval of a minimum: its low end is the lowest of the single differences' low ends, so that above 0 means
    above each one; its high end is the lowest of their high ends at level 0.05 over how many they are (Bonferroni), so
    that below 0 means some other one is better for sure. The minimum within redraws would lie too low where several
    are close. p: of the hardest single one above 0, of the clearest, times their number, below 0.
    """
    names = claim_runs.students(scores.layout, claim)
    changes = [_change(scores, claim, names, claim.a, other) for other in claim.others]
    low, high = minimum_interval([change.draws for change in changes])
    effect = min(change.effect for change in changes)
    # A difference above 0, however clear, says nothing of one below it.
    p_values = [p_value(change.draws) for change in changes if effect > 0 or change.effect <= 0]
    p = max(p_values) if effect > 0 else min(1.0, len(changes) * min(p_values))
    parts = [
        Part(f"minus {_row(scores, o)}", c.effect, *interval(c.draws))
        for o, c in zip(claim.others, changes, strict=True)
    ]
    return Finding(effect, low, high, POINTS, changes[0].n, p, tuple(parts), changes[0].note)


def minimum_interval(draws: list[np.ndarray]) -> tuple[float, float]:
    """A 95% interval of the smallest of several differences, from the redraws of each, (draws,)."""
    low = min(float(np.quantile(d, LEVEL / 2)) for d in draws)
    return low, min(float(np.quantile(d, 1 - LEVEL / 2 / len(draws))) for d in draws)


def retained(scores: Scores, claim: Retained) -> Finding:
    """The largest fall of any benchmark of any student; the interval is that of a minimum, as in `best`."""
    scale = scores.layout.scale
    found: list[tuple[str, str, Change]] = []
    for student in claim_runs.students(scores.layout, claim):
        trained = claim_runs.selected(scores.layout, student, claim.a)
        for name in averaged_columns(scores.layout):
            change = _paired_change(scores, trained, origin(student), student, [name], "score")
            if change:
                found.append((scale.model(student).display, scale.benchmark(name).display, change))
    if not found:
        raise NotTestable("none of its runs has a score")
    low, high = minimum_interval([change.draws for *_, change in found])
    adjusted = holm([p_value(change.draws) for *_, change in found])
    worse = [i for i, p in enumerate(adjusted) if p < LEVEL and found[i][2].effect < 0]
    parts = []
    for student in dict.fromkeys(student for student, *_ in found):
        fell = min((x for x in found if x[0] == student), key=lambda x: x[2].effect)
        parts.append(Part(f"{student}, {fell[1]}", fell[2].effect, *interval(fell[2].draws)))
    note = f"{len(worse)} of {len(found)} benchmarks significantly worse (Holm)"
    n = sum(change.n for *_, change in found)
    falls = [p for p, (*_, change) in zip(adjusted, found, strict=True) if change.effect < 0]
    return Finding(min(c.effect for *_, c in found), low, high, POINTS, n, min(falls, default=1.0), tuple(parts), note)


def interaction(scores: Scores, claim: Interaction) -> Finding:
    """(a minus b) of `students`, minus the same of the other students of `against`."""
    here, there = claim_runs.students(scores.layout, claim), claim_runs.others(scores.layout, claim)
    first = _change(scores, claim, here, claim.a, claim.b)
    second = _change(scores, claim, there, claim.a, claim.b)
    joined = Change(
        first.effect - second.effect,
        first.draws - second.draws,
        first.n + second.n,
        first.parts + second.parts,
        first.note or second.note,
    )
    return _finding(joined, claim.claimed)


def trend(scores: Scores, claim: Trend) -> Finding:
    """The least-squares slope of the score against log2 x: points a doubling, averaged over the study's students."""
    layout, scale = scores.layout, scores.layout.scale
    names = claim_runs.benchmarks(layout, claim.columns)
    by_student: dict[str, list[tuple[float, list[Run], Bootstrapped]]] = {}
    for student, cell in claim_runs.study_rows(layout, claim.study):
        runs = layout.cell_runs(student, cell)
        if (found := scores.bootstrapped_mean(runs, names)) is not None:
            by_student.setdefault(student, []).append((_x(layout, claim, cell), runs, found))
    slopes = []
    for student, rows in by_student.items():
        x = np.array([log2(value) for value, *_ in rows])
        if len(set(x)) < MIN_POINTS:
            continue
        weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
        effect = float(weights @ [mean for *_, (mean, _) in rows])
        draws = summed([w * redrawn for w, (*_, (_, redrawn)) in zip(weights, rows, strict=True)])
        n = scores.item_count(rows[0][1], names)
        slopes.append(Change(effect, draws, n, (_part(scale, student, effect, draws),)))
    if not slopes:
        raise NotTestable(f"fewer than {MIN_POINTS} different values of x have scores")
    return _finding(_average(slopes), claim.claimed, "points a doubling")


def _x(layout: Layout, claim: Trend, cell: Cell) -> float:
    """The row's title as a number, such as '10' or '1/4', or how many questions its training set has."""
    if claim.x == "questions":
        return sum(1 for _ in read_jsonl(layout.trainset(cell.trainset)))
    try:
        return float(Fraction(cell.row))
    except ValueError:
        raise UserError(
            key=f"studies.{claim.study}.rows", found=f"the row '{cell.row}'", expected="a number as title"
        ) from None


def _change(scores: Scores, claim: ScoreClaim, students: list[str], a: Selection, b: Selection) -> Change:
    """The mean over students of a minus b; a student whose runs lost a column is left out and named."""
    names = claim_runs.benchmarks(scores.layout, claim.columns)
    layout = scores.layout
    changes, missing = [], []
    for student in students:
        first, second = (claim_runs.selected(layout, student, selection) for selection in (a, b))
        change = _paired_change(scores, first, second, student, names, claim.of)
        changes += [change] if change else []
        missing += [] if change else [layout.scale.model(student).display]
    if not changes:
        had = " that it had items of right before" if claim.of == "retained" else ""
        raise NotTestable(f"no student has scores of all {claim.columns} columns{had}")
    why = "a column was dropped" + (" or had nothing right before" if claim.of == "retained" else "")
    note = f"without {', '.join(missing)}: {why}" if missing else ""
    average = _average(changes)
    return Change(average.effect, average.draws, average.n, average.parts, note)


def _paired_change(
    scores: Scores, a: list[Run], b: list[Run], student: str, names: list[str], of: str
) -> Change | None:
    """One student's a minus b, of scores or of what is retained; None where a column was dropped."""
    if of == "retained":
        start = origin(student)
        first, second = (scores.bootstrapped_retention(runs, start, names) for runs in (a, b))
    else:
        first, second = (scores.bootstrapped_mean(runs, names) for runs in (a, b))
    if first is None or second is None:
        return None
    effect, draws = first[0] - second[0], first[1] - second[1]
    part = _part(scores.layout.scale, student, effect, draws)
    return Change(effect, draws, scores.item_count(a, names), (part,))


def _average(changes: list[Change]) -> Change:
    effect = sum(change.effect for change in changes) / len(changes)
    draws = summed([change.draws for change in changes]) / len(changes)
    return Change(effect, draws, sum(change.n for change in changes), tuple(p for c in changes for p in c.parts))


def summed(draws: Sequence[np.ndarray]) -> np.ndarray:
    """The sum, one array after the other, so that its last bit does not depend on NumPy's order."""
    return sum(draws[1:], draws[0])


def _part(scale: Scale, student: str, effect: float, draws: np.ndarray) -> Part:
    return Part(scale.model(student).display, effect, *interval(draws))


def _row(scores: Scores, selection: Selection) -> str:
    scale = scores.layout.scale
    if selection.method == "origin":
        return "Origin"
    return f"{scale.methods[selection.method].display} on {scale.trainset(selection.trainset).display}"


def _finding(change: Change, claimed: Range, unit: str = POINTS) -> Finding:
    p = p_value(change.draws - nearest(change.effect, claimed))
    return Finding(change.effect, *interval(change.draws), unit, change.n, p, change.parts, change.note)


def nearest(effect: float, claimed: Range) -> float:
    """The finite bound of the claimed range that lies closest to the effect."""
    return min((bound for bound in claimed if np.isfinite(bound)), key=lambda bound: abs(effect - bound))
