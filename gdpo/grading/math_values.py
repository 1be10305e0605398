r"""Whether two math answers have one value: math-verify's comparison, made exact where both sides are.

math-verify drops any unit, dots and a decimal comma before it compares, and takes exact numbers for equal that differ
by less than 1e-15. Here units, sequences and exact numbers are compared first, by rules of our own.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from gdpo.grading.math_latex import plain_formula, to_latex
from gdpo.grading.math_text import extract_answer, same_text
from gdpo.grading.math_units import MEANINGFUL, contradict, leading_unit, value_and_unit
from gdpo.grading.math_words import number_in_words

if TYPE_CHECKING:
    from gdpo.core.records import Verdict

_DOTS = re.compile(r"\\(?:[lc]|dotsc?)?dots(?![a-zA-Z])|\\dots[cbmio]|\.{3}")
_OPTION = r"(?:[Oo]ption |[Cc]hoice )?(?:\(?[A-H]\s*[).:]|\([a-h]\))"  # (B), B. or Option B:
_GAP = r"(?:[\s~]|\\[,;: ]|\\q?quad)"
_LETTER = re.compile(rf"\\(?:text|math)(?:bf|rm|it)?\s*\{{\s*{_OPTION}\s*\}}[.:]?{_GAP}*|{_OPTION}[.:]?{_GAP}+")
_SAID = re.compile(r"\\text\s*\{[^{}]*\b(?:is|are|equals)\s*:?\s*\}\s*")
_TEXT = re.compile(r"\\(?:text(?:bf|rm|it|normal)?|mathrm|mbox)\s*\{([^{}]*)\}|([A-Za-z][A-Za-z -]+)")
_CLOCK = re.compile(r"\d{1,2}(?::\d\d){1,2}")
_BASE = re.compile(r"[\dA-F]+_\{?(?:\\text\{)?\s*(\w+)\s*\}{0,2}")
_LAST_NUMBER = re.compile(r"(?<![\d.])\d+(?:[.,]\d+)*(?![\d])(?!.*\d)", re.DOTALL)


def compare(reference: str, answer: str) -> Verdict:
    """The verdict on a final answer; "ungradable" where none can be read."""
    read = extract_answer(answer)
    if read is None:
        return "ungradable"
    reference = to_latex(reference)
    equal = same_text(reference, read)
    if equal is None:
        equal = _boxed_equal(reference, read[7:-1]) if read.startswith(r"\boxed{") else _prose_equal(reference, read)
    return "ungradable" if equal is None else "right" if equal else "wrong"


def _boxed_equal(reference: str, answer: str) -> bool | None:
    expected, found = (
        _in_digits(plain_formula(reference), alone=True),
        _in_digits(plain_formula(_without_letter(answer))),
    )
    if _DOTS.search(expected) or _DOTS.search(found):
        return _same_sequence(expected, found)
    (expected, expected_unit), (found, found_unit) = value_and_unit(expected), value_and_unit(found)
    percents = [unit or "%" * value.endswith("%") for value, unit in ((expected, expected_unit), (found, found_unit))]
    if contradict(*percents):
        return False
    if expected_unit and found_unit:  # 3:00 PM
        expected, found = (re.sub(r"^(\d{1,2}):00$", r"\1", value) for value in (expected, found))
    if _CLOCK.fullmatch(expected) and _CLOCK.fullmatch(found):
        return expected.lstrip("0") == found.lstrip("0")
    bases = [_BASE.fullmatch(value) for value in (expected, found)]
    if bases[0] and bases[1] and bases[0][1] != bases[1][1]:
        return False
    return _equal(_parsed(expected), _parsed(found))


def _prose_equal(reference: str, text: str) -> bool | None:
    """Against what math-verify finds in prose; a unit is read behind the last number."""
    expected, unit = value_and_unit(_in_digits(plain_formula(reference), alone=True))
    number = _LAST_NUMBER.search(text)
    rest = re.sub(r"^(?:\s|~|\\[,;: ])*\\(?:text|mathrm|mbox)\s*\{", "", text[number.end() :]) if number else ""
    if unit and number and contradict(unit, leading_unit(rest)):
        return False
    return _equal(_parsed(expected), _found(text))


def _without_letter(answer: str) -> str:
    """`answer` without the letter of a choice, or words that announce it, before its value."""
    said = _SAID.match(answer)
    rest = answer[said.end() :] if said else answer
    letter = _LETTER.match(rest)
    return rest[letter.end() :] if letter and re.match(r"[-\d\\$.(x]", rest[letter.end() :]) else rest


def _in_digits(latex: str, alone: bool = False) -> str:
    """`latex` with a number in words in digits: one that stands alone, or, of an answer, with what it counts."""
    text = _TEXT.fullmatch(latex)
    words = number_in_words((text[1] or text[2]).strip()) if text else None
    if words is None or MEANINGFUL.search(words[1]) or re.search(r"\d" if not alone else r"\S", words[1]):
        return latex
    return words[0] + (rf"\text{{{words[1]}}}" if words[1].strip() else "")


def _same_sequence(reference: str, answer: str) -> bool:
    """Whether terms and dots stand at the same places; the terms are compared as they are written."""
    return _terms(reference) == _terms(answer)


def _terms(latex: str) -> list[str]:
    text = _DOTS.sub(r"\\dots ", re.sub(r"\\(?:left|right)(?![a-zA-Z])|\\[,;:! ]|\\q?quad|~|\s", "", latex))
    text = re.sub(r"([_^])\{(\w)\}", r"\1\2", text)
    return [term.strip() for term in re.sub(r"^\\text\{([^{}]*)\}$", r"\1", text).split(",")]


def _parsed(latex: str) -> list[Any]:
    """A formula's value, with the imaginary unit for the symbol i; empty where it has none."""
    from math_verify import LatexExtractionConfig, parse

    spelling = replace(LatexExtractionConfig().normalization_config, units=False)
    target = LatexExtractionConfig(boxed_match_priority=0, normalization_config=spelling)
    return _imaginary(parse(rf"\boxed{{{latex}}}", [target], parsing_timeout=None))


def _found(text: str) -> list[Any]:
    """The value that math-verify finds in prose."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    return _imaginary(
        parse(text, [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()], parsing_timeout=None)
    )


def _equal(expected: list[Any], found: list[Any]) -> bool | None:
    if not found:
        return None
    grader = _grader()
    if any(_is_curve(value) for value in found) and not any(map(grader.is_equation, expected)):
        return False
    return bool(grader.verify(expected, found, _rounding(expected), allow_set_relation_comp=True, timeout_seconds=None))


def _is_curve(value: Any) -> bool:
    """Whether an equation holds its variables in more than a plain sum or product: it names no value."""
    from sympy import Eq, Number

    if not isinstance(value, Eq) or not value.lhs.free_symbols:
        return False
    variables = {symbol.name for symbol in value.lhs.free_symbols} & {"x", "y", "z"}
    return bool(variables) and any(abs(number) != 1 for number in value.lhs.atoms(Number))


@cache
def _grader() -> Any:
    """math-verify's grader, with `_same_number` in place of its own comparison of numbers."""
    from math_verify import grader

    grader.sympy_numeric_eq = partial(_same_number, grader.sympy_numeric_eq)
    return grader


def _same_number(original: Any, reference: Any, answer: Any, rounding: int, precision: int) -> bool:
    """As `original`, but exact numbers are equal only where they are, and decimals are rounded only beside a number
    that has more."""
    from math_verify.grader import get_pct_val, safe_sympy_doit
    from sympy import Expr, Float, N, expand

    if not all(isinstance(side, Expr) and get_pct_val(side) is None for side in (reference, answer)):
        return bool(original(reference, answer, rounding, precision))
    a, b = (safe_sympy_doit(_exact(number)) for number in (reference, answer))
    if (a - b).free_symbols:
        return bool(expand(a - b) == 0)
    if _vanishes(a - b):
        return True
    if not reference.has(Float) and not answer.has(Float):
        return False
    if _vanishes(a) or _vanishes(b) or (a.is_Rational and (a * 10**rounding).is_Integer):
        return False  # zero is no other number, and of a decimal with no more digits nothing is left to round
    return bool(N(a, 50).round(rounding) == N(b, 50).round(rounding))


def _exact(expression: Any) -> Any:
    """`expression` with its decimals as fractions."""
    from sympy import Float, Rational

    return expression.replace(lambda part: isinstance(part, Float), lambda part: Rational(str(part)))


def _vanishes(difference: Any) -> bool:
    """Whether an exact number is zero: where it is none, sympy finds digits of it however small it is."""
    if difference.is_Rational:
        return bool(difference == 0)
    parts = difference.evalf(2, maxn=300).as_real_imag()
    return all(part.is_Number and (part == 0 or getattr(part, "_prec", 0) == 1) for part in parts)


def _imaginary(parsed: list[Any]) -> list[Any]:
    from sympy import I

    return [
        value.subs({symbol: I for symbol in value.free_symbols if symbol.name == "i"})
        if any(symbol.name == "i" for symbol in getattr(value, "free_symbols", ()))
        else value
        for value in parsed
    ]


def _rounding(expected: list[Any]) -> int:
    """Decimals to which floats are compared: math-verify's 6, or four digits of a smaller value (ours)."""
    try:
        return max(6, 3 - math.floor(math.log10(abs(float(expected[0])))))
    except (TypeError, ValueError, IndexError, OverflowError):  # no number, zero, or beyond a float
        return 6
