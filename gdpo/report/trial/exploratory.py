"""What the trial prints besides its five answers, from its packed worlds. Pure functions; docs/protocol.md lists them.

No verdict rests on any of these. Each is one number a world, except areas between fronts, which are jackknife values;
p-values are adjusted together, by the false-discovery rate of Benjamini and Hochberg.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gdpo.report.trial import answers
from gdpo.report.trial.answers import MAIN_SETS, METAGDPO, NARROW, PRINTED, Answer
from gdpo.report.trial.effects import Cell, Rule, StudentWorld, row_by_rule, shared_rates
from gdpo.report.world_statistics import benjamini_hochberg

Floats = NDArray[np.float64]
Measure = Callable[[StudentWorld, int, str], float]  # of a run, by its place, and its training set

MEASURES: dict[str, Measure] = {
    "gain": lambda world, row, trainset: world.gain(row, trainset),
    "forgetting": lambda world, row, _: world.forgetting(row),
    "average": lambda world, row, _: world.average(row),
}

# Fronts of one cell less those of another, forgetting at equal gain, besides those of questions 2 and 3.
FRONTS: dict[str, Sequence[tuple[Cell, Cell]]] = {
    "SFT - GDPO": [((name, "sft"), (name, "gdpo")) for name in ("union", "metakl")],
    "GDPO as printed - GDPO": [((name, PRINTED), (name, "gdpo")) for name in ("union", "metakl")],
    "SFT - SFT (all right)": [((name, "sft"), (name, "sft-right")) for name in ("hard-only", "metakl")],
    "SFT - DPO": [(("metakl", "sft"), ("metakl", "dpo"))],
    "DPO - GDPO as printed": [(("metakl", "dpo"), METAGDPO)],
    "SFT: narrow - MetaKL": [((name, "sft"), ("metakl", "sft")) for name in NARROW],
    "SFT: random - MetaKL": [(("random", "sft"), ("metakl", "sft"))],
    "SFT: stratified - MetaKL": [(("stratified", "sft"), ("metakl", "sft"))],
}

# Means over the rates that both cells have, one less the other, of what each measure says.
SELF, FOREIGN = "metakl-self-s", "metakl-foreign"
AT_EQUAL_RATES: dict[str, tuple[Cell, Cell, Sequence[str]]] = {
    "A against A: SFT (again) - SFT": (("metakl", "sft-again"), ("metakl", "sft"), ("gain", "forgetting", "average")),
    "GDPO - GDPO (shuffled rewards)": (("metakl", "gdpo"), ("metakl", "gdpo-shuffled"), ("gain", "forgetting")),
    "GDPO as printed - itself (shuffled rewards)": (
        METAGDPO,
        ("metakl", "gdpo-literal-shuffled"),
        ("gain", "forgetting"),
    ),
    "GDPO - GDPO (positives only)": (("metakl", "gdpo"), ("metakl", "gdpo-positive"), ("gain", "forgetting")),
    "GDPO as printed - GDPO-A": (METAGDPO, ("metakl", "gdpo-unweighted"), ("gain", "forgetting")),
    "GDPO as printed: levels - right or wrong": (
        METAGDPO,
        ("metakl-two-levels", "gdpo-control"),
        ("gain", "forgetting"),
    ),
    "teacher, SFT (right): near - self": (("metakl", "sft-self"), (SELF, "sft-self"), ("gain", "forgetting")),
    "teacher, SFT (right): foreign - near": ((FOREIGN, "sft-self"), ("metakl", "sft-self"), ("gain", "forgetting")),
    "teacher, GDPO as printed: foreign - near": ((FOREIGN, "gdpo-control"), METAGDPO, ("gain", "forgetting")),
}
PRETRAINING: Cell = ("pretraining-s", "sft-control")
POSITIVE: Sequence[Cell] = (("hard-only", "sft"), ("hard-only", "sft-right"))
RULES: tuple[Rule, ...] = ("own", "best")


@dataclass(frozen=True)
class Comparison:
    """One exploratory effect.

    Attributes:
        group: What it belongs to: `rate`, `rule`, `fronts`, `controls`.
        measure: gain, forgetting or average, in points; `area` of fronts.
        answer: Its effect, interval, p-value and values; its `question` is its name.
        adjusted_p: p among all comparisons of the trial, by Benjamini and Hochberg.
    """

    group: str
    measure: str
    answer: Answer
    adjusted_p: float = float("nan")


def comparisons(worlds: Sequence[StudentWorld]) -> list[Comparison]:
    """Every comparison whose runs all worlds have, in the protocol's order, with adjusted p-values."""
    found = [*by_rate(worlds), *by_rule(worlds), *between(worlds), *controls(worlds)]
    adjusted = iter(benjamini_hochberg([one.answer.p for one in found]))
    return [Comparison(one.group, one.measure, one.answer, next(adjusted)) for one in found]


def by_rate(worlds: Sequence[StudentWorld]) -> Iterator[Comparison]:
    """Question 1 at every rate, and what SFT on hard questions gains of them: the positive control."""
    cells: list[Cell] = [(name, "sft") for name in NARROW]
    if _have(worlds, cells):
        for rate in shared_rates(worlds, cells):
            values = np.mean([_values(worlds, cell, rate, "forgetting") for cell in cells], axis=0)
            yield Comparison("rate", "forgetting", answers.of_values(f"narrow SFT at {rate}", values))
    for cell in POSITIVE:
        if _have(worlds, [cell]):
            for rate in shared_rates(worlds, [cell]):
                named = f"{'/'.join(cell)} at {rate}"
                yield Comparison("rate", "gain", answers.of_values(named, _values(worlds, cell, rate, "gain")))


def by_rule(worlds: Sequence[StudentWorld]) -> Iterator[Comparison]:
    """Questions 1 and 4 with rates that validation items choose, those of each set's own skills or of all columns."""
    cells: list[Cell] = [(name, method) for name in MAIN_SETS for method in ("sft", PRINTED)]
    if not _have(worlds, cells):
        return
    for rule in RULES:
        narrow = answers.narrow_forgetting(worlds, by_validation(rule))
        yield Comparison("rule", "forgetting", replace(narrow, question=f"{rule}: narrow SFT"))
    for rule in RULES:
        for part in answers.both(worlds, by_validation(rule)).parts:
            yield Comparison("rule", "average", replace(part, question=f"{rule}: {part.question}"))


def by_validation(rule: Rule) -> answers.Choose:
    """The run of a cell at the rate that validation items choose."""
    return lambda world, cell: row_by_rule(world, cell, rule)


def between(worlds: Sequence[StudentWorld]) -> Iterator[Comparison]:
    """Forgetting at equal gain: areas between fronts."""
    for name, pairs in FRONTS.items():
        if _have(worlds, [cell for pair in pairs for cell in pair]):
            yield Comparison("fronts", "area", answers.between_fronts(name, worlds, pairs))


def controls(worlds: Sequence[StudentWorld]) -> Iterator[Comparison]:
    """Differences at equal rates: what each control and each teacher changes."""
    for name, (one, other, measures) in AT_EQUAL_RATES.items():
        if _have(worlds, [one, other]):
            for measure in measures:
                values = _mean(worlds, one, [one, other], measure) - _mean(worlds, other, [one, other], measure)
                yield Comparison("controls", measure, answers.of_values(name, values))
    if _have(worlds, [PRETRAINING]):
        values = _mean(worlds, PRETRAINING, [PRETRAINING], "forgetting")
        yield Comparison("controls", "forgetting", answers.of_values("continued pretraining", values))


def _have(worlds: Sequence[StudentWorld], cells: Sequence[Cell]) -> bool:
    return all(world.has(cell) for world in worlds for cell in cells) and bool(shared_rates(worlds, cells))


def _values(worlds: Sequence[StudentWorld], cell: Cell, rate: str, measure: str) -> Floats:
    return np.array([MEASURES[measure](w, w.row(cell, rate, w.seeds()[0]), cell[0]) for w in worlds])


def _mean(worlds: Sequence[StudentWorld], cell: Cell, among: Sequence[Cell], measure: str) -> Floats:
    """One number a world: the mean over the rates that the cells `among` share."""
    by_rate: Floats = np.mean([_values(worlds, cell, rate, measure) for rate in shared_rates(worlds, among)], axis=0)
    return by_rate
