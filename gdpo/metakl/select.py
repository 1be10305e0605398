"""The selection of training sets: Algorithm 1 of the paper for MetaKL, and the baselines' sets of equal size.

The paper leaves r_k's formula, ties and replay open. docs/assumptions.md gives the reasons for the choices here.

Algorithm 1 as printed computes every gap again for each question it takes. Here a gap changes only when a unit reaches
its quota. Gaps never rise, so one pass goes over the questions of the largest gap, in the order that breaks ties, and
takes each whose gap has not fallen meanwhile; then come those of the next smaller gap, and so on. The selection and its
order are those of the printed algorithm.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gdpo.config.data import Selection
from gdpo.config.models import TrainSet
from gdpo.core.errors import UserError
from gdpo.core.records import Question

BISECTIONS = 40
MAX_SLOPE = 1e6  # from here on the slope of r_k is not doubled again


@dataclass(frozen=True)
class Pool:
    """n questions, numbered in the order in which ties are broken, and the U units that they need.

    Attributes:
        indices: `indices[q]` is question q's index in the caller's list.
        names: `names[k]` is unit k's name.
        units: `units[q]` is K_q, the units of question q.
        questions_by_unit: `questions_by_unit[k]`, (C_k,), are the questions that need unit k.
        pair_questions: The question of every pair of a question and a unit that it needs, (sum |K_q|,).
        pair_units: The unit of each of these pairs, (sum |K_q|,).
    """

    indices: list[int]
    names: list[str]
    units: list[list[int]]
    questions_by_unit: list[np.ndarray]
    pair_questions: np.ndarray
    pair_units: np.ndarray

    @classmethod
    def of(cls, units: Sequence[Sequence[str]], order: Sequence[tuple]) -> Pool:
        """`units[i]` are the units of the i-th question. Ties are broken by `order[i]`, smallest first, then by i."""
        indices = sorted(range(len(units)), key=lambda i: (order[i], i))
        numbers: dict[str, int] = {}
        needs = [[numbers.setdefault(name, len(numbers)) for name in dict.fromkeys(units[i])] for i in indices]
        pair_units = np.array([unit for row in needs for unit in row], dtype=np.intp)
        pair_questions = np.repeat(np.arange(len(needs)), np.array([len(row) for row in needs], dtype=np.intp))
        by_unit = pair_questions[np.argsort(pair_units, kind="stable")]
        counts = np.bincount(pair_units, minlength=len(numbers))
        questions_by_unit = np.split(by_unit, np.cumsum(counts)[:-1]) if numbers else []
        return cls(indices, list(numbers), needs, questions_by_unit, pair_questions, pair_units)

    def selected(self, chosen: Iterable[int]) -> np.ndarray:
        """How many of the questions `chosen` need each unit, (U,)."""
        needed = np.array([unit for q in chosen for unit in self.units[q]], dtype=np.intp)
        return np.bincount(needed, minlength=len(self.names))

    def greedy(
        self,
        quotas: np.ndarray,
        *,
        chosen: Sequence[int] = (),
        allowed: np.ndarray | None = None,
        limit: int | None = None,
    ) -> list[int]:
        """What the greedy loop of Algorithm 1 adds to `chosen`: at most `limit` questions, in the order of choice.

        Unit k is below its quota while fewer than `quotas[k]` chosen questions need it; `quotas` has shape (U,).
        A question's gap is its number of units below their quotas. The question of the largest gap is taken, of equals
        the first, until no gap is positive. `allowed` (n,) marks the questions that may be taken; None: all.
        """
        shortfall = quotas - self.selected(chosen)
        gaps = np.bincount(self.pair_questions, (shortfall > 0)[self.pair_units], len(self.units)).astype(int)
        if allowed is not None:
            gaps[~allowed] = 0
        gaps[np.array(chosen, dtype=np.intp)] = 0
        remaining: list[int] = shortfall.tolist()
        added: list[int] = []
        for gap in range(gaps.max(initial=0), 0, -1):
            for question in np.flatnonzero(gaps == gap).tolist():
                if gaps[question] != gap:
                    continue  # one of its units has reached its quota since the pass over this gap began
                if len(added) == limit:
                    return added
                added.append(question)
                gaps[question] = 0
                for unit in self.units[question]:
                    remaining[unit] -= 1
                    if remaining[unit] == 0:
                        gaps[self.questions_by_unit[unit]] -= 1  # below 0 for those taken: no pass sees them
        return added


def quotas(ratios: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """t_k, the smallest whole number s with s / C_k >= r_k in floating point; (U,) integers."""
    smallest = np.ceil(ratios * counts)  # at most one off, since product and quotient are rounded
    smallest -= (smallest - 1) / counts >= ratios
    smallest += smallest / counts < ratios
    quotas: np.ndarray = np.maximum(smallest, 0).astype(int)
    return quotas


def keep_ratios(counts: np.ndarray, proficiency: np.ndarray, replay: int, slope: float) -> np.ndarray:
    """r_k, (U,): falls as the unit's average proficiency p_k rises.

    It is min(1, replay / C_k + slope * (1 - p_k)): the replayed questions, and more of units that are not mastered.
    Where the replay of all units is too much, a negative slope takes from the mastered units:
    max(0, min(1, replay / C_k) + slope * p_k).
    """
    if slope < 0:
        return np.maximum(0.0, np.minimum(1.0, replay / counts) + slope * proficiency)
    return np.minimum(1.0, replay / counts + slope * (1.0 - proficiency))


@dataclass(frozen=True)
class MetaklSelection:
    """A selection, the slope of r_k that bisection found, and for how many slopes the greedy loop ran."""

    indices: list[int]
    slope: float
    trials: int


def metakl(
    questions: Sequence[Question],
    average: Mapping[str, float],
    unit_average: Mapping[str, float],
    selection: Selection,
    size: int,
    mastered: float,
) -> MetaklSelection:
    """The MetaKL set: questions of many units, replayed questions, then Algorithm 1 over the rest; of ties the harder.

    Args:
        questions: The pool.
        average: Question id -> average proficiency.
        unit_average: Unit -> p_k.
        selection: `keep_units`, and `replay_per_unit`: mastered questions are replayed until each unit has about so
            many questions, those of many units counted, in at most half of the set.
        size: How many questions to select. r_k's slope is the smallest, by bisection, that yields them; where the
            steepest does not, fewer come back.
        mastered: Questions with at least this average proficiency are mastered: the models answer them already.
    """
    pool = Pool.of([q.units for q in questions], [(average[q.id], stable_hash(q.id)) for q in questions])
    counts = np.array([len(numbers) for numbers in pool.questions_by_unit])
    proficiency = np.array([unit_average[name] for name in pool.names])
    easy = np.array([average[questions[i].id] >= mastered for i in pool.indices])
    start = _preselect(pool, counts, easy, selection, size)
    tried: dict[bytes, list[int]] = {}  # by quotas: slopes that differ little have the same

    def added(slope: float) -> list[int]:
        unit_quotas = quotas(keep_ratios(counts, proficiency, selection.replay_per_unit, slope), counts)
        if (key := unit_quotas.tobytes()) not in tried:
            tried[key] = pool.greedy(unit_quotas, chosen=start, limit=size - len(start))
        return tried[key]

    def enough(slope: float) -> bool:
        return len(start) + len(added(slope)) >= min(size, len(questions))

    low, high = (-1.0, 0.0) if enough(0.0) else (0.0, 1.0)
    while enough(low) and low > -MAX_SLOPE:
        low, high = low * 2, low
    while not enough(high) and high < MAX_SLOPE:
        low, high = high, high * 2
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return MetaklSelection([pool.indices[q] for q in start + added(high)], high, len(tried))


def _preselect(pool: Pool, counts: np.ndarray, easy: np.ndarray, selection: Selection, size: int) -> list[int]:
    """What is chosen before r_k matters: questions of many units, then replayed ones, which `easy` (n,) marks."""
    kept = [q for q, units in enumerate(pool.units) if len(units) >= selection.keep_units]
    replay = quotas(np.minimum(1.0, selection.replay_per_unit / counts), counts)
    return (kept + pool.greedy(replay, chosen=kept, allowed=easy, limit=size // 2))[:size]


def stable_hash(text: str) -> str:
    """A key of a fixed pseudo-random order, in which questions of equal difficulty come."""
    return hashlib.sha256(text.encode()).hexdigest()


def hardest(questions: Sequence[Question], trainset: TrainSet) -> list[Question]:
    """The most difficult questions that `trainset` admits, in place of LIMO; equals by `stable_hash`."""
    admitted = [q for q in questions if admits(trainset, q)]
    return sorted(admitted, key=lambda q: (-q.difficulty, stable_hash(q.id)))[: trainset.size]


def sample_by_hash(questions: Sequence[Question], trainset: TrainSet) -> list[Question]:
    """Questions that `trainset` admits, in a fixed pseudo-random order: a larger set holds a smaller one.

    In place of STAR-1, and for the parts of a set.
    """
    return sorted((q for q in questions if admits(trainset, q)), key=lambda q: stable_hash(q.id))[: trainset.size]


def random_sample(questions: Sequence[Question], trainset: TrainSet, seed: int) -> list[Question]:
    """`trainset.size` of the questions that it admits, each as likely as any other; a control for MetaKL."""
    return _drawn([q for q in questions if admits(trainset, q)], trainset.size, seed)


def stratified_sample(questions: Sequence[Question], trainset: TrainSet, seed: int) -> list[Question]:
    """As `random_sample`, but every domain gives as many, until one has no more; the first ones give what is over."""
    admitted = [q for q in questions if admits(trainset, q)]
    domains = [[q for q in admitted if q.domain == domain] for domain in dict.fromkeys(q.domain for q in admitted)]
    return union([_drawn(of_domain, trainset.size, seed) for of_domain in domains], trainset.size) if domains else []


def _drawn(questions: Sequence[Question], size: int, seed: int) -> list[Question]:
    return random.Random(f"sample {seed}").sample(questions, min(size, len(questions)))


def joined(parts: Sequence[Sequence[Question]], size: int) -> list[Question]:
    """Every question of every set, the first set's first, each once; at most `size`."""
    return list({question.id: question for part in parts for question in part}.values())[:size]


def union(parts: Sequence[Sequence[Question]], size: int) -> list[Question]:
    """Questions of every set in turn, each once: equal parts, until a set runs out."""
    turns = [part[turn] for turn in range(max(map(len, parts))) for part in parts if turn < len(part)]
    return list({question.id: question for question in turns}.values())[:size]


def admits(trainset: TrainSet, question: Question) -> bool:
    """Whether domain, grader and source of a question are among those that the training set takes."""
    return (
        (trainset.domain is None or question.domain == trainset.domain)
        and (trainset.grader is None or question.grader == trainset.grader)
        and (not trainset.sources or question.source in trainset.sources)
    )


def check_size(name: str, trainset: TrainSet, chosen: Sequence[Question]) -> None:
    """Raises UserError where the pool holds fewer questions than `trainset` asks for; for a part, where it is empty.

    Training sets of equal size are a premise of the comparison, except between a set and its own parts.
    """
    needed = 1 if trainset.select == "part" else trainset.size
    if len(chosen) < needed:
        count = f"{len(chosen)} in the pool"
        raise UserError(
            key=f"trainsets.{name}.size",
            found=count,
            expected=f"{needed} questions" if needed > 1 else "at least one question",
        )
