"""The letter that an answer to a multiple-choice question commits to."""

from __future__ import annotations

import pytest

from gdpo.grading.letters import chosen_letter

CSQA = ("bank", "library", "department store", "mall", "new york")


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
        ("The answer is a bank", None),
        ("The answer is I do not know", None),
        ("A bank has doors", None),
        ("F", None),
        ("", None),
    ],
)
def test_chosen_letter(text: str, letter: str | None) -> None:
    assert chosen_letter(text, CSQA) == letter
