"""What is read of an answer before math-verify compares it."""

from __future__ import annotations

import pytest

from gdpo.grading.math_text import extract_answer, same_text, to_latex


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("½", r"\frac{1}{2}"),
        ("2½", r"2\frac{1}{2}"),
        ("x²", "x^{2}"),
        ("10⁻³", "10^{-3}"),
        ("3√13", r"3\sqrt{13}"),
        ("√(x+1)", r"\sqrt{x+1}"),
        ("\u22123", "-3"),
        ("3\u20135", "3\u20135"),
        ("90°", r"90^\circ"),
        ("20 °C", r"20^\circ\text{C}"),
        ("1 3/4", r"1\frac{3}{4}"),
        ("1 6/4", "1 6/4"),
        (r"12\,345\,678", "12345678"),
        ("1,2,345", "1,2,345"),
        ("4.5e33", r"4.5 \times 10^{33}"),
        (r"\boxed{4.5e33}", r"\boxed{4.5 \times 10^{33}}"),
        (r"0.1\overline{6}", r"\frac{15}{90}"),
        (r"\\boxed{1}", r"\boxed{1}"),
    ],
)
def test_glyphs_in_latex(text: str, latex: str) -> None:
    """0.1666... = (16 - 1) / 90."""
    assert to_latex(text) == latex


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        (r"\boxed{3}, no: \boxed{4}", r"\boxed{4}"),
        (r"\boxed{3} and $x = \boxed{4}$", r"\boxed{3, 4}"),
        (r"$\boxed{5}$, $\boxed{5}$", r"\boxed{5}"),
        (r"\boxed{\{1, 2\}}", r"\boxed{\{1, 2\}}"),
        (r"\boxed{4 and \boxed{5}", r"\boxed{5}"),
        (r"\boxed{5} and \boxed{4", None),
        (r"\boxed", None),
        ("We get 12 and then the", None),
        ("The answer is 3√2, not 3.", r"\boxed{3\sqrt{2}}"),
        ("The answer is 5, from (3, 4).", r"\boxed{5}"),
        ("The answer is 60 miles per hour.", r"\boxed{60\text{ miles per hour}}"),
        ("The answer is x = 3 or x = 5.", r"\boxed{x = 3 or x = 5}"),
        ("The answer is not 5.", None),
        ("The answer is 3. Wait, it is 4.", None),
        (r"\boxed{3}, as asked in \boxed{}.", r"\boxed{3}"),
        (r"\boxed{3}. The answer is \boxed{}.", None),
        (r"It is not \boxed{3}.", None),
        ("It lies at (3, 4).", "It lies at $(3, 4)$."),
        (r"Since $a$ is 2, it lies at (3, 4).", r"Since $a$ is 2, it lies at $(3, 4)$."),
        ("6 * 7 = 42", "6 * 7 = 42"),
    ],
)
def test_extract_answer(answer: str, read: str | None) -> None:
    assert extract_answer(answer) == read


@pytest.mark.parametrize(
    ("reference", "read", "told"),
    [
        (r"\text{Evelyn}", r"\boxed{Evelyn}", True),
        (r"\text{Evelyn}", "The answer is evelyn.", True),
        (r"\text{Evelyn}", "The answer is Angela.", False),
        (r"\text{Evelyn}", r"\boxed{Angela}", None),
        (r"\frac{1}{23}", r"\boxed{\dfrac{1}{23}}", True),
        (r"\frac{1}{23}", r"\boxed{\frac{12}{3}}", None),
        ("1 2", r"\boxed{12}", None),
        ("x", r"\boxed{X}", None),
        ("", r"\boxed{}", None),
    ],
)
def test_same_text(reference: str, read: str, told: bool | None) -> None:
    assert same_text(reference, read) is told
