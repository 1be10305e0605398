"""A question's gold completion: its solution, else its right choice by letter, else none."""

from __future__ import annotations

import pytest

from gdpo.core.records import Question, gold_of


def asked(**changes) -> Question:
    given = {"id": "q", "domain": "general", "source": "s", "question": "?", "answer": "7", "grader": "exact"}
    return Question(**given | changes)


LETTERED = {"grader": "letter", "choices": ["red", "green"], "answer": "B"}


@pytest.mark.parametrize(
    ("question", "gold"),
    [
        (asked(solution="It is 7."), "It is 7."),
        (asked(**LETTERED), "B. green"),
        (asked(**LETTERED, solution="Green, so B."), "Green, so B."),
        (asked(grader="letter", answer="B"), None),  # its choices stand in its text
        (asked(grader="refusal", answer=""), None),
        (asked(grader="refusal", answer="", solution="I cannot help with that."), "I cannot help with that."),
        (asked(), None),
    ],
)
def test_gold_of(question, gold):
    assert gold_of(question) == gold
