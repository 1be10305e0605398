"""The five primary questions of the trial, answered from its packed worlds. Pure functions; docs/protocol.md has them.

Every effect is one number a world; intervals, tests and verdicts are those of gdpo.report.world_statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gdpo.report.bootstrap import holm
from gdpo.report.trial.effects import Cell, StudentWorld, points
from gdpo.report.world_statistics import (
    Verdict,
    front_differences,
    joint_swap_p,
    sign_flip_p,
    t_estimate,
    verdict,
)

MARGIN = 1.0  # points, of every question: docs/protocol.md says where it comes from
SMALLEST_OVERLAP = 1.0  # points of gain that two fronts must both reach
NARROW = ("hard-only", "safety-only", "union")
PRINTED = "gdpo-literal"  # the objective as the paper prints it
METAGDPO: Cell = ("metakl", PRINTED)
OBJECTIVE = "2 GDPO forgets less than SFT"
AS_GOOD = "5 GDPO is as good as GRPO"
MAIN_SETS = (*NARROW, "metakl")  # those of table 2

Floats = NDArray[np.float64]
Rates = Mapping[str, float]  # method -> its rate under a rule
Choose = Callable[[StudentWorld, Cell], int]  # the run of a cell, at the rate that a rule chooses


@dataclass(frozen=True)
class Answer:
    """What the worlds say of one question.

    Attributes:
        question: The question's name.
        effect, low, high: The mean over worlds with its 95% t interval, in points; NaN where fronts do not overlap.
        p: Two-sided, of sign flips or swapped names; of a claim in two parts, the larger.
        adjusted_p: By Holm over the five primary questions.
        verdict: supported, contradicted, equivalent or inconclusive.
        values: One number a world.
        parts: What the effect is made of, one Answer each.
    """

    question: str
    effect: float
    low: float
    high: float
    p: float
    values: tuple[float, ...]
    adjusted_p: float = float("nan")
    verdict: Verdict = "inconclusive"
    note: str = ""
    parts: tuple[Answer, ...] = ()


def of_values(question: str, values: Floats, p: float | None = None, note: str = "") -> Answer:
    """The answer that one number a world gives; `p` in place of that of sign flips."""
    found = t_estimate(values)
    p = sign_flip_p(values) if p is None else p
    return Answer(question, found.mean, found.low, found.high, p, tuple(map(float, values)), note=note)


def not_comparable(question: str, note: str) -> Answer:
    nothing = float("nan")
    return Answer(question, nothing, nothing, nothing, 1.0, (), note=note)


def fixed(rates: Rates) -> Choose:
    """The run of a cell at its method's fixed rate."""
    return lambda world, cell: world.row(cell, f"{rates[cell[1]]:g}", world.seeds()[0])


def narrow_forgetting(worlds: Sequence[StudentWorld], choose: Choose, without: str | None = None) -> Answer:
    """1. Forgetting of SFT on the narrow sets, at the fixed rate: the mean over the sets."""

    def forgets(name: str) -> Floats:
        return np.array([w.forgetting(choose(w, (name, "sft")), without) for w in worlds])

    by_set = {name: forgets(name) for name in NARROW}
    whole = of_values("1 narrow SFT forgets", np.mean(list(by_set.values()), axis=0))
    return replace(whole, parts=tuple(of_values(f"SFT, {name}", values) for name, values in by_set.items()))


def between_fronts(
    question: str, worlds: Sequence[StudentWorld], pairs: Sequence[tuple[Cell, Cell]], without: str | None = None
) -> Answer:
    """The area between two cells' fronts, the first's forgetting less the second's at equal gain; the mean over pairs.

    A pair whose fronts do not both reach SMALLEST_OVERLAP is left out, and said.
    """
    parts, compared, left_out = [], [], []
    for one, other in pairs:
        a, b = points(worlds, one, without), points(worlds, other, without)
        values = front_differences(a, b, SMALLEST_OVERLAP)
        name = f"{'/'.join(one)} - {'/'.join(other)}"
        if values is None:
            left_out.append(name)
            parts.append(not_comparable(name, f"no common gain of {SMALLEST_OVERLAP:g} point"))
        else:
            compared.append((values, a, b))
            parts.append(of_values(name, values, joint_swap_p([(a, b)])))
    note = f"not comparable: {', '.join(left_out)}" if left_out else ""
    if not compared:
        return replace(not_comparable(question, note), parts=tuple(parts))
    p = joint_swap_p([(a, b) for _, a, b in compared])
    whole = of_values(question, np.mean([values for values, _, _ in compared], axis=0), p, note)
    return replace(whole, parts=tuple(parts))


def objective(worlds: Sequence[StudentWorld], without: str | None = None) -> Answer:
    """2. SFT's front less GDPO's, as printed, on the same set; the mean over the sets of table 2."""
    pairs = [((name, "sft"), (name, PRINTED)) for name in MAIN_SETS]
    return between_fronts(OBJECTIVE, worlds, pairs, without)


def data(worlds: Sequence[StudentWorld], without: str | None = None) -> Answer:
    """3. Under GDPO as printed: the narrow sets' fronts less MetaKL's, and the random set's less MetaKL's.

    Both must hold: the effect is the smaller one, and p the larger.
    """
    narrow = between_fronts("narrow - MetaKL", worlds, [((name, PRINTED), METAGDPO) for name in NARROW], without)
    random = between_fronts("random - MetaKL", worlds, [(("random", PRINTED), METAGDPO)], without)
    return weaker("3 MetaKL forgets less", [narrow, random])


def weaker(question: str, parts: Sequence[Answer]) -> Answer:
    """A claim that needs each of its parts: the part with the smallest effect stands for it.

    Where that one is above 0, p is the largest of all, since all must hold (an intersection-union test). Else one part
    is enough to contradict the claim, and p is that part's own times the number of parts (Bonferroni).
    """
    if any(np.isnan(part.effect) for part in parts):
        return replace(not_comparable(question, "; ".join(p.note for p in parts if p.note)), parts=tuple(parts))
    least = min(parts, key=lambda part: part.effect)
    p = max(part.p for part in parts) if least.effect > 0 else min(1.0, least.p * len(parts))
    return replace(least, question=question, p=p, note=f"least: {least.question}", parts=tuple(parts))


def both(worlds: Sequence[StudentWorld], choose: Choose, without: str | None = None) -> Answer:
    """4. MetaGDPO's average over taught and untaught columns less that of each of eight others, at fixed rates.

    They are the untrained student, SFT on the four sets of table 2, and GDPO as printed on the three narrow ones.
    """
    others: list[Cell] = [(name, method) for name in MAIN_SETS for method in ("sft", PRINTED)]

    def averages(cell: Cell) -> Floats:
        return np.array([w.average(choose(w, cell), without=without) for w in worlds])

    best = averages(METAGDPO)
    untrained = of_values("MetaGDPO - Origin", best)
    compared = [of_values(f"MetaGDPO - {'/'.join(cell)}", best - averages(cell)) for cell in others if cell != METAGDPO]
    return weaker("4 MetaGDPO is best", [untrained, *compared])


def cost(worlds: Sequence[StudentWorld], grpo_rates: Sequence[float], without: str | None = None) -> Answer:
    """5. GDPO's average less GRPO's on MetaKL, each at the rate that its set's validation items prefer."""

    def best(world: StudentWorld, method: str) -> float:
        rows = [world.row(("metakl", method), f"{rate:g}", world.seeds()[0]) for rate in grpo_rates]
        return world.average(max(rows, key=lambda row: world.own_validation(row, "metakl")), without=without)

    values = np.array([best(w, PRINTED) - best(w, "grpo") for w in worlds])
    return of_values(AS_GOOD, values)


def judged(answers: Sequence[Answer]) -> list[Answer]:
    """The answers with p adjusted by Holm and with their verdicts.

    "As good as" is supported where the 95% interval lies above -MARGIN, and contradicted where it lies below.
    """
    adjusted = holm([answer.p for answer in answers])
    found = []
    for answer, p in zip(answers, adjusted, strict=True):
        says: Verdict = verdict(answer.values, MARGIN, p) if answer.values else "inconclusive"
        if answer.question == AS_GOOD and says != "equivalent":
            says = "supported" if answer.low > -MARGIN else "contradicted" if answer.high < -MARGIN else "inconclusive"
        found.append(replace(answer, adjusted_p=p, verdict=says))
    return found


def questions(
    worlds: Sequence[StudentWorld], rates: Rates, grpo_rates: Sequence[float]
) -> list[Callable[[str | None], Answer]]:
    """The five questions; each takes a column that it leaves out, or None."""
    return [
        lambda without: narrow_forgetting(worlds, fixed(rates), without),
        lambda without: objective(worlds, without),
        lambda without: data(worlds, without),
        lambda without: both(worlds, fixed(rates), without),
        lambda without: cost(worlds, grpo_rates, without),
    ]


def primary(worlds: Sequence[StudentWorld], rates: Rates, grpo_rates: Sequence[float]) -> list[Answer]:
    """The five answers."""
    return judged([ask(None) for ask in questions(worlds, rates, grpo_rates)])
