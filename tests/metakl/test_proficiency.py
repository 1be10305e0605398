"""Proficiency per question and unit, by hand-worked numbers."""

from __future__ import annotations

from gdpo.metakl.proficiency import question_proficiency, unit_proficiency
from gdpo.records import Question


def test_average_is_over_models_then_questions_and_strict_needs_every_model():
    """q1: right by both (average 1, strict 1); q2: by one (1/2, 0). Unit a has both: 3/4 and 1/2; b only q2."""
    rows = question_proficiency({"m1": {"q1": 1.0, "q2": 1.0}, "m2": {"q1": 1.0, "q2": 0.0}})
    assert rows["q1"] == {"m1": 1.0, "m2": 1.0, "average": 1.0, "strict": 1.0}
    assert rows["q2"] == {"m1": 1.0, "m2": 0.0, "average": 0.5, "strict": 0.0}
    base = {"domain": "math", "source": "s", "answer": "1", "grader": "exact"}
    questions = [
        Question(id="q1", question="x", units=["a"], **base),
        Question(id="q2", question="y", units=["a", "b"], **base),
        Question(id="unmeasured", question="z", units=["c"], **base),
    ]
    assert unit_proficiency(questions, rows) == {
        "a": {"count": 2, "average": 0.75, "strict": 0.5},
        "b": {"count": 1, "average": 0.5, "strict": 0.0},
    }
