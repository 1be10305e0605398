"""A training text and a benchmark item are the same question, whatever instruction or choices follow."""

from __future__ import annotations

from gdpo.overlap import Asked
from gdpo.records import Question


def item(text: str, choices: tuple[str, ...] = ()) -> Question:
    return Question(id="i", domain="math", source="s", question=text, answer="1", grader="math", choices=list(choices))


def test_instructions_and_spelling_make_no_difference():
    asked = Asked(["what is  1 + 1 ?", "Something else"], ["Box it."])
    assert item("What is 1+1?\n\nBox it.") in asked
    assert item("What is 1+1?") in asked
    assert item("What is 1-1?") not in asked


def test_a_trained_prompt_with_lettered_choices_is_found():
    assert item("Which?", ("a", "b")) in Asked(["Which?\nA. a\nB. b"])
