"""A row becomes a Question by paths alone; a path that leads nowhere is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gdpo.config.data import Source
from gdpo.core.errors import UserError
from gdpo.metakl.sources import read_source
from tests.mirror import mirror_of
from tests.refusal import refused


def source(grader: str, paths: dict) -> Source:
    return Source(domain="math", fields=paths, grader=grader, licence="MIT", mirror="rows.jsonl")


NESTED = {
    "item": {"stem": " Which? ", "options": ["a cat", "a dog"]},
    "answers": [1, 0],
    "level": "Level 3",
    "tags": ["House Pets", "House Pets", "R & D"],
    "why": "Dogs bark.",
}
PATHS = {
    "question": "item.stem", "choices": "item.options", "answer": "answers.0",
    "difficulty": "level", "topics": "tags", "solution": "why",
}  # fmt: skip


def test_a_source_is_added_by_paths_alone(tmp_path: Path) -> None:
    [question] = read_source("n", source("letter", PATHS), mirror_of(tmp_path, NESTED))
    assert (question.question, question.choices, question.answer) == ("Which?", ["a cat", "a dog"], "B")
    assert (question.difficulty, question.topics) == (3.0, ["house_pets", "r_and_d"])
    assert question.solution == "<think>\nDogs bark.\n</think>\n\n\\boxed{B}"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"item": {"options": ["x"]}}, "question (item.stem): found None, expected text"),
        ({"answers": "B"}, "answer (answers.0): found 'B', expected something that has '0'"),
        ({"answers": [2]}, "answer (answers.0): found 2, expected the index of one of 2 choices"),
        ({"answers": ["C"]}, "answer (answers.0): found 'C', expected one of A, B, an index, or a choice"),
        (
            {"item": {"stem": "W", "options": "x"}},
            "choices (item.options): found 'x', expected a list of at most 10 choices",
        ),
        (
            {"item": {"stem": "W", "options": []}},
            "choices (item.options): found [], expected a list of at most 10 choices",
        ),
        ({"level": "hard"}, "difficulty (level): found 'hard', expected a number"),
    ],
)
def test_missing_path_is_named(tmp_path: Path, change: dict, problem: str) -> None:
    mirror = mirror_of(tmp_path, NESTED, NESTED | change)
    with pytest.raises(UserError) as caught:
        read_source("n", source("letter", PATHS), mirror)
    assert str(caught.value) == f"{mirror / 'rows.jsonl'}, line 2, {problem}"


def test_ambiguous_numeric_answer_is_refused(tmp_path: Path) -> None:
    """Of the choices 1, 2, 3 the answer 1 may mean the second or the first; of 3, 1 it means the second either way."""
    paths = {"question": "q", "choices": "c", "answer": "a"}
    mirror = mirror_of(tmp_path, {"q": "Q", "c": [3, 1], "a": 1}, {"q": "Q", "c": [1, 2, 3], "a": 1})
    with refused(line=2, key="answer (a)", found="1", expected=re.compile("it may mean B or A$")):
        read_source("n", source("letter", paths), mirror)
    [question] = read_source("n", source("letter", paths), mirror_of(tmp_path, {"q": "Q", "c": [3, 1], "a": 1}))
    assert question.answer == "B"


def test_answers_by_letter_and_by_text(tmp_path: Path) -> None:
    paths = {"question": "q", "choices": "c", "answer": "a"}
    rows = [{"q": "Q", "c": ["yes", "no", 3], "a": answer} for answer in ("B", "no", 1, "3")]
    questions = read_source("n", source("letter", paths), mirror_of(tmp_path, *rows))
    assert [question.answer for question in questions] == ["B", "B", "B", "C"]
    refused = source("refusal", {"question": "q"})
    [first, *_] = read_source("n", refused, mirror_of(tmp_path, *rows))
    assert (first.answer, first.choices, first.topics) == ("", [], [])
