"""Algorithm 1 and the MetaKL set as the text puts them, with nothing remembered: what the shipped ones must equal."""

from __future__ import annotations

from collections import Counter

from gdpo.metakl.select import BISECTIONS, MAX_SLOPE, stable_hash


def algorithm1(units, ratios, order, *, counts, chosen=(), candidates=None, most=float("inf")):
    """Algorithm 1 as printed: recompute every gap, take the largest, until none is positive or `most` are taken."""
    units = [set(needed) for needed in units]
    selected = Counter(unit for q in chosen for unit in units[q])
    remaining = set(range(len(units)) if candidates is None else candidates) - set(chosen)
    added = []
    while len(added) < most:
        gaps = {q: sum(selected[k] / counts[k] < ratios[k] for k in units[q]) for q in remaining}
        positive = [q for q in remaining if gaps[q] > 0]
        if not positive:
            break
        best = min(positive, key=lambda q: (-gaps[q], order[q], q))
        added.append(best)
        remaining.remove(best)
        selected.update(units[best])
    return added


def metakl(questions, average, unit_average, selection, size, answered, slope=None):
    """The whole selection, at the slope that all of the bisection's trials lead to.

    With a `slope`, at that one alone, each loop stopped when it has as many questions as are used.
    """
    units = [question.units for question in questions]
    counts = Counter(unit for needed in units for unit in set(needed))
    order = [(average[question.id], stable_hash(question.id)) for question in questions]
    kept = sorted((q for q in range(len(units)) if len(set(units[q])) >= selection.keep_units), key=order.__getitem__)
    easy = [q for q, question in enumerate(questions) if average[question.id] >= answered]
    reminding = {k: min(1.0, selection.replay_per_unit / counts[k]) for k in counts}
    once = slope is not None
    most = size // 2 if once else float("inf")
    reminders = algorithm1(units, reminding, order, counts=counts, chosen=kept, candidates=easy, most=most)
    start = (kept + reminders[: size // 2])[:size]

    def chosen(slope):
        if slope < 0:
            ratios = {k: max(0.0, reminding[k] + slope * unit_average[k]) for k in counts}
        else:
            ratios = {
                k: min(1.0, selection.replay_per_unit / counts[k] + slope * (1.0 - unit_average[k])) for k in counts
            }
        most = size - len(start) if once else float("inf")
        return start + algorithm1(units, ratios, order, counts=counts, chosen=start, most=most)

    if once:
        return chosen(slope)

    def enough(slope):
        return len(chosen(slope)) >= min(size, len(questions))

    low, high = (-1.0, 0.0) if enough(0.0) else (0.0, 1.0)
    while enough(low) and low > -MAX_SLOPE:
        low, high = low * 2, low
    while not enough(high) and high < MAX_SLOPE:
        low, high = high, high * 2
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return chosen(high)[:size]
