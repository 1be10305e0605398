"""How well the base models master each question and each knowledge unit (paper, MetaKL step 4).

Average proficiency of a question: the share of models that answer it right; of a unit: the mean over its
questions. Strict proficiency counts a question only when every model is right.
"""

from __future__ import annotations

from collections.abc import Mapping

from gdpo.records import Question


def question_proficiency(right: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """question id -> each model's accuracy, `average` and `strict`, from model -> question id -> accuracy."""
    models = list(right)
    rows = {}
    for question in right[models[0]]:
        accuracies = {model: right[model][question] for model in models}
        average = sum(accuracies.values()) / len(models)
        rows[question] = {**accuracies, "average": average, "strict": float(min(accuracies.values()) == 1.0)}
    return rows


def unit_proficiency(questions: list[Question], rows: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """unit -> count, `average`, `strict` over the measured questions that need it."""
    needed: dict[str, list[str]] = {}
    for question in questions:
        if question.id in rows:
            for unit in dict.fromkeys(question.units):
                needed.setdefault(unit, []).append(question.id)
    return {
        unit: {
            "count": len(ids),
            "average": sum(rows[i]["average"] for i in ids) / len(ids),
            "strict": sum(rows[i]["strict"] for i in ids) / len(ids),
        }
        for unit, ids in sorted(needed.items())
    }
