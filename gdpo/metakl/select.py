"""Which questions train: Algorithm 1 of the paper for MetaKL, and the baselines' sets of equal size.

What the paper leaves open is chosen here and argued in docs/assumptions.md: r_k's formula, ties, reminders.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Mapping, Sequence

from gdpo.errors import UserError
from gdpo.records import Question
from gdpo.schema import Selection, TrainSet

BISECTIONS = 40


def algorithm1(
    units: Sequence[Sequence[str]],
    ratios: Mapping[str, float],
    order: Sequence[tuple],
    *,
    counts: Mapping[str, int],
    chosen: Sequence[int] = (),
    candidates: Sequence[int] | None = None,
) -> list[int]:
    """The greedy loop of Algorithm 1: indices of the questions added to `chosen`, in the order of choice.

    `units[q]` are K_q, `counts[k]` is C_k, `ratios[k]` is r_k, and `order[q]` breaks ties, smallest first.
    The gap G_q = number of k in K_q with selected_k / C_k < r_k; the question with the largest gap is taken
    until no candidate has a positive gap. A unit leaves the gap at most once, so a heap with stale entries
    does the whole loop in O(sum |K_q| log n).
    """
    selected = Counter(unit for q in chosen for unit in set(units[q]))
    remaining = set(range(len(units)) if candidates is None else candidates) - set(chosen)

    def wanting(unit: str) -> bool:
        return selected[unit] / counts[unit] < ratios[unit]

    gaps = {q: sum(wanting(unit) for unit in set(units[q])) for q in remaining}
    askers: dict[str, list[int]] = {}
    for q in sorted(remaining):
        for unit in set(units[q]):
            askers.setdefault(unit, []).append(q)
    heap = [(-gap, order[q], q) for q, gap in gaps.items() if gap]
    heapq.heapify(heap)
    added = []
    while heap:
        gap, _, q = heapq.heappop(heap)
        if q not in remaining or -gap != gaps[q]:
            continue
        remaining.discard(q)
        added.append(q)
        for unit in set(units[q]):
            wanted = wanting(unit)
            selected[unit] += 1
            if wanted and not wanting(unit):
                for other in askers[unit]:
                    if other in remaining:
                        gaps[other] -= 1
                        if gaps[other]:
                            heapq.heappush(heap, (-gaps[other], order[other], other))
    return added


def keep_ratios(
    counts: Mapping[str, int], proficiency: Mapping[str, float], reminders: int, slope: float
) -> dict[str, float]:
    """r_k = min(1, reminders / C_k + slope * (1 - p_k)): falls as the unit's average proficiency p_k rises."""
    return {k: min(1.0, reminders / counts[k] + slope * (1.0 - proficiency[k])) for k in counts}


def metakl(
    questions: Sequence[Question],
    average: Mapping[str, float],
    unit_average: Mapping[str, float],
    selection: Selection,
    size: int,
    answered: float,
) -> list[int]:
    """Indices of the MetaKL set: kept questions of many units, reminders, then harder questions first.

    `average` maps question id to average proficiency, `unit_average` unit to p_k. From `answered` on a
    question counts as one the models already answer; each unit keeps about `selection.reminders` of these,
    in at most half of the set. r_k's slope is the smallest, by bisection, that yields `size` questions.
    """
    units = [question.units for question in questions]
    counts = Counter(unit for needed in units for unit in set(needed))
    hardest_first = [(average[q.id], stable_hash(q.id)) for q in questions]
    kept = [i for i, needed in enumerate(units) if len(set(needed)) >= selection.keep_units]
    kept.sort(key=lambda i: hardest_first[i])
    easy = [i for i, question in enumerate(questions) if average[question.id] >= answered]
    reminding = {k: min(1.0, selection.reminders / counts[k]) for k in counts}
    reminders = algorithm1(units, reminding, hardest_first, counts=counts, chosen=kept, candidates=easy)
    start = (kept + reminders[: size // 2])[:size]

    def chosen(slope: float) -> list[int]:
        ratios = keep_ratios(counts, unit_average, selection.reminders, slope)
        return start + algorithm1(units, ratios, hardest_first, counts=counts, chosen=start)

    low, high = 0.0, 1.0
    while len(chosen(high)) < min(size, len(questions)) and high < 1e6:
        low, high = high, high * 2
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if len(chosen(middle)) >= size else (middle, high)
    return chosen(high)[:size]


def stable_hash(text: str) -> str:
    """An order that looks random and never changes: where difficulty ties, questions come in this order."""
    return hashlib.sha256(text.encode()).hexdigest()


def hardest(questions: Sequence[Question], trainset: TrainSet) -> list[Question]:
    """The most difficult questions that `trainset` admits (LIMO's role; with equal difficulties, any of them)."""
    admitted = [q for q in questions if admits(trainset, q)]
    return sorted(admitted, key=lambda q: (-q.difficulty, stable_hash(q.id)))[: trainset.size]


def any_of(questions: Sequence[Question], trainset: TrainSet) -> list[Question]:
    """Questions that `trainset` admits, in a fixed order that looks random (STAR-1's role)."""
    return sorted((q for q in questions if admits(trainset, q)), key=lambda q: stable_hash(q.id))[: trainset.size]


def union(parts: Sequence[Sequence[Question]], size: int) -> list[Question]:
    """Equal parts of every set, taken in turn, each question once."""
    turns = [part[turn] for turn in range(max(map(len, parts))) for part in parts if turn < len(part)]
    return list({question.id: question for question in turns}.values())[:size]


def part(questions: Sequence[Question], trainset: TrainSet) -> list[Question]:
    """At most `size` of the whole set's questions that `trainset` admits; a smaller part lies within a larger one."""
    return sorted((q for q in questions if admits(trainset, q)), key=lambda q: stable_hash(q.id))[: trainset.size]


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
        raise UserError(f"trainsets.{name}.size: expected {trainset.size} questions, the pool yields {len(found)}")
