"""How well the base models master each question and each knowledge unit (paper, MetaKL step 4).

Average proficiency of a question: the mean over models of the share of samples that answer it right; of a unit: the
mean over its questions. Strict proficiency counts a question only when every model is right in every sample.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from gdpo.config.data import Proficiency
from gdpo.core.errors import UserError
from gdpo.core.records import Question
from gdpo.metakl.select import stable_hash


def measured_sample(questions: list[Question], settings: Proficiency) -> list[Question]:
    """The questions whose proficiency is measured: the first of `settings.questions` in a fixed pseudo-random order.

    None means all, in their own order. A mapping says how many of each domain; a domain that it lacks has none. A
    larger sample holds a smaller one.
    """
    if settings.questions is None:
        return questions
    ordered = sorted(questions, key=lambda question: stable_hash(question.id))
    if isinstance(settings.questions, int):
        return ordered[: settings.questions]
    counts: Counter[str] = Counter()
    sample = []
    for question in ordered:
        if counts[question.domain] < settings.questions.get(question.domain, 0):
            counts[question.domain] += 1
            sample.append(question)
    return sample


def question_proficiency(right: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """question id -> each model's accuracy, `average` and `strict`, from model -> question id -> accuracy in [0, 1].

    Raises UserError where the models have not answered the same questions.
    """
    models = list(right)
    for model in models[1:]:
        if differing := right[models[0]].keys() ^ right[model].keys():
            found = f"{min(differing)} answered by one of {models[0]} and {model} alone"
            raise UserError(key="proficiency", found=found, expected="every model's answers to the same questions")
    rows = {}
    for question in right[models[0]]:
        accuracies = {model: right[model][question] for model in models}
        average = sum(accuracies.values()) / len(models)
        rows[question] = {**accuracies, "average": average, "strict": float(min(accuracies.values()) == 1.0)}
    return rows


def unit_proficiency(questions: list[Question], rows: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """unit -> count, `average`, `strict` over the measured questions that need it."""
    ids_by_unit: dict[str, list[str]] = {}
    for question in questions:
        if question.id in rows:
            for unit in dict.fromkeys(question.units):
                ids_by_unit.setdefault(unit, []).append(question.id)
    return {
        unit: {
            "count": len(ids),
            "average": sum(rows[i]["average"] for i in ids) / len(ids),
            "strict": sum(rows[i]["strict"] for i in ids) / len(ids),
        }
        for unit, ids in sorted(ids_by_unit.items())
    }


def estimate_unmeasured(
    questions: list[Question], average: Mapping[str, float], unit_average: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, float]]:
    """`average` and `unit_average` for every question and unit; measured values stay as they are.

    An unmeasured question takes the mean of its units' averages. A unit without a measured question takes the mean
    over its questions of their domains' averages over measured questions, or of the average over all measured
    questions where a domain has none. A question without units takes its domain's average likewise. Where nothing is
    measured, both come back unchanged.
    """
    known = [question for question in questions if question.id in average]
    if not known:
        return dict(average), dict(unit_average)
    by_domain: dict[str, list[float]] = defaultdict(list)
    for question in known:
        by_domain[question.domain].append(average[question.id])
    overall = _mean(average[question.id] for question in known)
    level = {q.domain: _mean(by_domain[q.domain]) if by_domain[q.domain] else overall for q in questions}
    levels_of: dict[str, list[float]] = defaultdict(list)
    for question in questions:
        for unit in dict.fromkeys(question.units):
            levels_of[unit].append(level[question.domain])
    units = {unit: _mean(levels) for unit, levels in levels_of.items()} | dict(unit_average)
    estimates = {
        q.id: _mean(units[unit] for unit in dict.fromkeys(q.units)) if q.units else level[q.domain] for q in questions
    }
    return estimates | dict(average), units


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)
