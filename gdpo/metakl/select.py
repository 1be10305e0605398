"""Which questions train: Algorithm 1 of the paper for MetaKL, and the baselines' sets of equal size.

What the paper leaves open is chosen here and argued in docs/assumptions.md: r_k's formula, ties, reminders.

Algorithm 1 as printed computes every gap again for each question it takes. Here a gap is changed only when a unit has
enough: gaps never rise, so the questions of the largest gap can be gone through once, in the order that breaks ties,
then those of the next smaller gap, and so on. The selection and its order are those of the printed algorithm.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gdpo.config.data import Selection
from gdpo.config.models import TrainSet
from gdpo.core.errors import UserError
from gdpo.core.records import Question

BISECTIONS = 40
STEEPEST = 1e6  # of r_k's slopes that are tried


@dataclass(frozen=True)
class Pool:
    """n questions, numbered in the order in which ties are broken, and the U units that they need.

    `indices[q]` is question q's place in the caller's list, `names[k]` unit k's name. `units[q]` are K_q,
    `askers[k]` (C_k,) the questions that need unit k; (`questioners`, `needed`) are the same pairs, (sum |K_q|,) each.
    """

    indices: list[int]
    names: list[str]
    units: list[list[int]]
    askers: list[np.ndarray]
    questioners: np.ndarray
    needed: np.ndarray

    @classmethod
    def of(cls, units: Sequence[Sequence[str]], order: Sequence[tuple]) -> Pool:
        """`units[i]` are the units of the i-th question; `order[i]` breaks ties, smallest first, then i does."""
        indices = sorted(range(len(units)), key=lambda i: (order[i], i))
        numbers: dict[str, int] = {}
        needs = [[numbers.setdefault(name, len(numbers)) for name in dict.fromkeys(units[i])] for i in indices]
        needed = np.array([unit for row in needs for unit in row], dtype=np.intp)
        questioners = np.repeat(np.arange(len(needs)), np.array([len(row) for row in needs], dtype=np.intp))
        by_unit = questioners[np.argsort(needed, kind="stable")]
        counts = np.bincount(needed, minlength=len(numbers))
        askers = np.split(by_unit, np.cumsum(counts)[:-1]) if numbers else []
        return cls(indices, list(numbers), needs, askers, questioners, needed)

    def selected(self, chosen: Iterable[int]) -> np.ndarray:
        """How many of the questions `chosen` need each unit, (U,)."""
        needed = np.array([unit for q in chosen for unit in self.units[q]], dtype=np.intp)
        return np.bincount(needed, minlength=len(self.names))

    def greedy(
        self, quotas: np.ndarray, *, chosen: Sequence[int] = (), free: np.ndarray | None = None, most: int | None = None
    ) -> list[int]:
        """What the greedy loop of Algorithm 1 adds to `chosen`: at most `most` questions, in the order of choice.

        `quotas` (U,): unit k is wanting while fewer than `quotas[k]` chosen questions need it. A question's gap is
        its number of wanting units; the largest gap is taken, of equals the first question, until no gap is positive.
        `free` (n,) marks the questions that may be taken.
        """
        wanting = quotas - self.selected(chosen)
        gaps = np.bincount(self.questioners, (wanting > 0)[self.needed], len(self.units)).astype(int)
        if free is not None:
            gaps[~free] = 0
        gaps[np.array(chosen, dtype=np.intp)] = 0
        left: list[int] = wanting.tolist()
        added: list[int] = []
        for gap in range(gaps.max(initial=0), 0, -1):
            for question in np.flatnonzero(gaps == gap).tolist():
                if gaps[question] != gap:
                    continue  # one of its units has had enough since this gap's turn began
                if len(added) == most:
                    return added
                added.append(question)
                gaps[question] = 0
                for unit in self.units[question]:
                    left[unit] -= 1
                    if left[unit] == 0:
                        gaps[self.askers[unit]] -= 1  # below 0 for those already taken, which no turn looks for
        return added


def quotas(ratios: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """t_k, the smallest number s for which s / C_k < r_k is false in floating point; (U,) integers."""
    needed = np.ceil(ratios * counts)  # at most one off, since product and quotient are rounded
    needed -= (needed - 1) / counts >= ratios
    needed += needed / counts < ratios
    smallest: np.ndarray = np.maximum(needed, 0).astype(int)
    return smallest


def keep_ratios(counts: np.ndarray, proficiency: np.ndarray, reminders: int, slope: float) -> np.ndarray:
    """r_k, (U,): falls as the unit's average proficiency p_k rises.

    min(1, reminders / C_k + slope * (1 - p_k)): the reminders, and more of what is not mastered. Where the reminders of
    all units are too many, a negative slope takes from what is mastered: max(0, min(1, reminders / C_k) + slope * p_k).
    """
    if slope < 0:
        return np.maximum(0.0, np.minimum(1.0, reminders / counts) + slope * proficiency)
    return np.minimum(1.0, reminders / counts + slope * (1.0 - proficiency))


@dataclass(frozen=True)
class Chosen:
    """A selection, the slope of r_k that bisection found for it, and how many slopes had the greedy loop run."""

    indices: list[int]
    slope: float
    trials: int


def metakl(
    questions: Sequence[Question],
    average: Mapping[str, float],
    unit_average: Mapping[str, float],
    selection: Selection,
    size: int,
    answered: float,
) -> Chosen:
    """The MetaKL set: kept questions of many units, reminders, then Algorithm 1 over the rest, harder first.

    `average` maps question id to average proficiency, `unit_average` unit to p_k. From `answered` on a
    question counts as one the models already answer; each unit keeps about `selection.replay_per_unit` of these,
    in at most half of the set. r_k's slope is the smallest, by bisection, that yields `size` questions.
    """
    pool = Pool.of([q.units for q in questions], [(average[q.id], stable_hash(q.id)) for q in questions])
    counts = np.array([len(askers) for askers in pool.askers])
    proficiency = np.array([unit_average[name] for name in pool.names])
    start = _start(
        pool, counts, np.array([average[questions[i].id] >= answered for i in pool.indices]), selection, size
    )
    tried: dict[bytes, list[int]] = {}  # by quotas, since slopes that differ little ask for the same

    def added(slope: float) -> list[int]:
        wanted = quotas(keep_ratios(counts, proficiency, selection.replay_per_unit, slope), counts)
        if (key := wanted.tobytes()) not in tried:
            tried[key] = pool.greedy(wanted, chosen=start, most=size - len(start))
        return tried[key]

    def enough(slope: float) -> bool:
        return len(start) + len(added(slope)) >= min(size, len(questions))

    low, high = (-1.0, 0.0) if enough(0.0) else (0.0, 1.0)
    while enough(low) and low > -STEEPEST:
        low, high = low * 2, low
    while not enough(high) and high < STEEPEST:
        low, high = high, high * 2
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return Chosen([pool.indices[q] for q in start + added(high)], high, len(tried))


def _start(pool: Pool, counts: np.ndarray, easy: np.ndarray, selection: Selection, size: int) -> list[int]:
    """What is chosen before r_k matters: the questions of many units, then reminders among the `easy` ones, (n,)."""
    kept = [q for q, needed in enumerate(pool.units) if len(needed) >= selection.keep_units]
    reminding = quotas(np.minimum(1.0, selection.replay_per_unit / counts), counts)
    return (kept + pool.greedy(reminding, chosen=kept, free=easy, most=size // 2))[:size]


def stable_hash(text: str) -> str:
    """An order that looks random and never changes: where difficulty ties, questions come in this order."""
    return hashlib.sha256(text.encode()).hexdigest()


def hardest(questions: Sequence[Question], trainset: TrainSet) -> list[Question]:
    """The most difficult questions that `trainset` admits (LIMO's role; with equal difficulties, any of them)."""
    admitted = [q for q in questions if admits(trainset, q)]
    return sorted(admitted, key=lambda q: (-q.difficulty, stable_hash(q.id)))[: trainset.size]


def any_of(questions: Sequence[Question], trainset: TrainSet) -> list[Question]:
    """Questions that `trainset` admits, in a fixed order that looks random, so that a larger set holds a smaller one.

    STAR-1's role, and the parts of a set.
    """
    return sorted((q for q in questions if admits(trainset, q)), key=lambda q: stable_hash(q.id))[: trainset.size]


def union(parts: Sequence[Sequence[Question]], size: int) -> list[Question]:
    """Equal parts of every set, taken in turn, each question once."""
    turns = [part[turn] for turn in range(max(map(len, parts))) for part in parts if turn < len(part)]
    return list({question.id: question for question in turns}.values())[:size]


def admits(trainset: TrainSet, question: Question) -> bool:
    """Whether domain, grader and source of a question are among those that the training set takes."""
    return (
        (trainset.domain is None or question.domain == trainset.domain)
        and (trainset.grader is None or question.grader == trainset.grader)
        and (not trainset.sources or question.source in trainset.sources)
    )


def check_size(name: str, trainset: TrainSet, found: Sequence[Question]) -> None:
    """Training sets of equal size are a premise of the comparison, but of a set with its own parts.

    Raises UserError where the pool holds too few questions for `trainset`, or the whole set none of a part's.
    """
    if len(found) < (1 if trainset.select == "part" else trainset.size):
        count = f"{len(found)} in the pool"
        raise UserError(key=f"trainsets.{name}.size", found=count, expected=f"{trainset.size} questions")
