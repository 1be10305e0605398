"""Numbers in English words."""

from __future__ import annotations

import pytest

from gdpo.grading.math_words import number_in_words


@pytest.mark.parametrize(
    ("text", "latex", "rest"),
    [
        ("forty-two", "42", ""),
        ("one hundred and five apples", "105", " apples"),
        ("two million five hundred thousand and six", "2500006", ""),
        ("nineteen hundred", "1900", ""),
        ("two dozen", "24", ""),
        ("a third", r"\frac{1}{3}", ""),
        ("one and a half", r"\frac{3}{2}", ""),
        ("minus three point one four", r"-\frac{157}{50}", ""),
        ("one second", "1", " second"),
        ("one hundred and", "100", " and"),
    ],
)
def test_number_in_words(text: str, latex: str, rest: str) -> None:
    assert number_in_words(text) == (latex, rest)


@pytest.mark.parametrize("text", ["", "none", "a", "one two", "ten five", "hundred", "and one", "third", "42"])
def test_no_number_in_words(text: str) -> None:
    assert number_in_words(text) is None
