"""The letter that an answer to a multiple-choice question commits to.

`data/letter_cases.jsonl` was written before its rules by someone who had not seen them: per kind, answers that must
be read and answers of which none is read. `data/letter_phrasings.jsonl` says the same of any letter in ways of its own.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest

from gdpo.grading.grade import final_answer
from gdpo.grading.letters import chosen_letter

CSQA = ("bank", "library", "department store", "mall", "new york")
DATA = Path(__file__).parents[1] / "data"


def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def cases_by_kind() -> dict[str, list[dict]]:
    kinds = defaultdict(list)
    for row in rows("letter_cases.jsonl"):
        kinds[row["kind"]].append(row)
    return kinds


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("B.", "B"),
        ("(B)", "B"),
        ("B. library", "B"),
        ("B) library", "B"),
        ("B\nbecause it is quiet", "B"),
        ("The answer is B", "B"),
        ("The answer is **B**.", "B"),
        ("The correct answer is: (B) library.", "B"),
        ("Answer: B because of the doors", "B"),
        ("Answer: A. No, the answer is D", "D"),
        (r"So \boxed{B}", "B"),
        (r"$\boxed{\text{B}}$", "B"),
        (r"\boxed{B. library}", "B"),
        (r"\boxed{(B)}, not the answer A", "B"),
        ("Library.", "B"),
        ("new  york", "E"),
        ("I would go for the bank (A).", "A"),
        ("Either (A) or (B).", None),
        ("The answer is a bank", "A"),
        ("The answer is a zoo", None),
        ("The answer is I do not know", None),
        ("A bank has doors", None),
        ("F", None),
        ("", None),
    ],
)
def test_chosen_letter(text: str, letter: str | None) -> None:
    assert chosen_letter(text, CSQA) == letter


@pytest.mark.parametrize("kind", cases_by_kind())
def test_letters_of_a_kind_are_read(kind: str) -> None:
    for row in cases_by_kind()[kind]:
        found = chosen_letter(final_answer(row["completion"]), row["choices"])
        assert found == row["letter"], row["completion"]


@pytest.mark.parametrize("letters", ["ABCD", "ABCDE"])
def test_every_phrasing_names_every_letter(letters: str) -> None:
    """191 phrasings, of which 131 choose <X> and 60 choose none, with each letter in its turn; none is misread."""
    choices = (*CSQA[: len(letters)],)
    for row in rows("letter_phrasings.jsonl"):
        for number, letter in enumerate(letters):
            others = [letters[(number + step) % len(letters)] for step in (1, 2)]
            text = row["phrasing"]
            for mark, said in zip(("<X>", "<x>", "<Y>", "<Z>"), (letter, letter.lower(), *others), strict=True):
                text = text.replace(mark, said)
            assert chosen_letter(text, choices) == (letter if row["chosen"] else None), text


@pytest.mark.parametrize(
    "text",
    [
        "So A + B = 5.",
        "Thus $A=3$, $B=2$ and $C=1$.",
        "$B$ is a right angle.",
        r"What is it? $\textbf{(A)}\ 9\qquad\textbf{(B)}\ 10$",
        "Some people think the answer is B.",
        "The least likely answer is B.",
        "B is most unlikely.",
        "Choices: A. bank, B. library",
    ],
)
def test_letters_of_formulas_and_of_others_are_not_chosen(text: str) -> None:
    assert chosen_letter(text, CSQA) is None
