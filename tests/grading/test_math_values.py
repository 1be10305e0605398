"""Values of math answers: numbers that are exact are compared exactly."""

from __future__ import annotations

import pytest

from gdpo.grading.math_values import compare


@pytest.mark.parametrize(
    ("reference", "answer", "verdict"),
    [
        (r"\frac{\sqrt{2}}{10^{40}}", r"\frac{\sqrt{3}}{10^{40}}", "wrong"),
        (r"\frac{\sqrt{2}}{10^{40}}", r"\frac{2}{\sqrt{2} \cdot 10^{40}}", "right"),
        ("(1, 10^{-20})", "(1, 10^{-21})", "wrong"),
        (r"\{1, 10^{-20}\}", r"\{1, 10^{-21}\}", "wrong"),
        ("x + 10^{-20}", "x", "wrong"),
        ("0", "0.0000001", "wrong"),
        (r"\frac{1}{2}", "0.49999999", "wrong"),
        (r"\frac{1}{3}", "0.33333333", "right"),
        ("123456789012345678", "123456789012345679", "wrong"),
        (r"\cos\frac{\pi}{7}", r"\sin\frac{5\pi}{14}", "right"),
        ("5", "x^2 + y^2 = 5", "wrong"),
        ("5", "x + y = 5", "right"),
        (r"1, 2, \ldots, n", r"1, 2, \dots, n", "right"),
        (r"1, 2, \ldots, n", r"1, 3, \dots, n", "wrong"),
        ("8:30", "8:03", "wrong"),
        (r"75\%", r"75^\circ", "wrong"),
        (r"75\%", "75", "right"),
        ("2516_8", "2516_9", "wrong"),
        (r"\text{two lines}", r"\text{two points}", "wrong"),
    ],
)
def test_values_are_compared_exactly(reference: str, answer: str, verdict: str) -> None:
    assert compare(reference, rf"\boxed{{{answer}}}") == verdict
