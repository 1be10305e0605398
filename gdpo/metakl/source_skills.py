"""Annotation by the source: a question's skills are the units or topics that it came with."""

from __future__ import annotations

from gdpo.core.errors import UserError
from gdpo.core.records import Question, Skills


def annotate(questions: list[Question]) -> list[Skills]:
    """The units that a question came with, else its source's topics.

    Raises UserError naming a question that has neither.
    """
    unlabelled = next((q.id for q in questions if not q.units and not q.topics), None)
    if unlabelled is not None:
        raise UserError(
            key=f"pool question {unlabelled}",
            found="no topic",
            expected="one",
            hint="or set another backend in 'annotate'",
        )
    reason = "the source's own word"
    return [Skills(id=q.id, skills=dict.fromkeys(q.units or q.topics, reason)) for q in questions]
