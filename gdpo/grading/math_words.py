"""Numbers in English words as LaTeX: "forty-two", "one hundred and five", "two thirds", "minus one and a half"."""

from __future__ import annotations

import re
from fractions import Fraction

_SMALL_WORDS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen"""
_TENS_WORDS = "twenty thirty forty fifty sixty seventy eighty ninety"
_PART_WORDS = "third fourth fifth sixth seventh eighth ninth tenth"
_SMALL = {word: value for value, word in enumerate(_SMALL_WORDS.split())}
_TENS = {word: 10 * value for value, word in enumerate(_TENS_WORDS.split(), 2)}
SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {"half": 2, "halves": 2, "quarter": 4, "quarters": 4}
for _value, _word in enumerate(_PART_WORDS.split(), 3):
    _PARTS |= {_word: _value, _word + "s": _value}
_PARTS |= {"hundredth": 100, "hundredths": 100, "thousandth": 1000, "thousandths": 1000}

_WORD = re.compile(r"[\s-]*([a-z]+)(?![a-z])", re.IGNORECASE)
_ANY = _SMALL.keys() | _TENS.keys() | SCALES.keys() | _PARTS.keys() | {"point"}
_LONGEST = 24  # words; a number has fewer


def number_in_words(text: str) -> tuple[str, str] | None:
    """The number that `text` begins with, in LaTeX, and what follows it; None where it begins with none."""
    words: list[str] = []
    ends = [0]
    while len(words) < _LONGEST and (word := _WORD.match(text, ends[-1])):
        words.append(word[1].lower())
        ends.append(word.end())
    negative = bool(words) and words[0] in ("minus", "negative")
    value, used = _number(words, int(negative))
    following = words[used] if used < len(words) else ""
    if value is None or following in _ANY:
        return None
    return ("-" if negative else "") + _latex(value), text[ends[used] :]


def _latex(value: Fraction) -> str:
    whole = value.denominator == 1
    return str(value.numerator) if whole else rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def _number(words: list[str], start: int) -> tuple[Fraction | None, int]:
    """The number at `start`, and the first word behind it."""
    part = _part(words, start)
    if part:
        return part
    whole, end = _whole(words, start)
    if whole is None:
        return None, start
    value = Fraction(whole)
    if words[end : end + 1] == ["point"]:
        digits: list[int] = []
        while end + 1 + len(digits) < len(words) and _SMALL.get(words[end + 1 + len(digits)], 10) < 10:
            digits.append(_SMALL[words[end + 1 + len(digits)]])
        decimals = int("".join(map(str, digits)) or "0")
        return (value + Fraction(decimals, 10 ** len(digits)), end + 1 + len(digits)) if digits else (None, start)
    if words[end : end + 1] == ["and"] and (part := _part(words, end + 1)):
        return value + part[0], part[1]
    return value, end


def _part(words: list[str], start: int) -> tuple[Fraction, int] | None:
    """A fraction at `start`: "half", "a third", "two thirds"."""
    if words[start : start + 1] == ["half"]:
        return Fraction(1, 2), start + 1
    count, end = (1, start + 1) if words[start : start + 1] in (["a"], ["an"]) else _whole(words, start)
    if count is None or end >= len(words) or words[end] not in _PARTS:
        return None
    return Fraction(count, _PARTS[words[end]]), end + 1


def _whole(words: list[str], start: int) -> tuple[int | None, int]:
    """A whole number at `start`; "and" stands behind hundreds and scales alone."""
    total, group, end = 0, None, start
    if words[end : end + 1] in (["a"], ["an"]) and words[end + 1 : end + 2] and words[end + 1] in SCALES:
        group, end = 1, end + 1
    while end < len(words):
        word = words[end]
        joined = word == "and" and end > start and words[end - 1] in SCALES
        if joined and words[end + 1 : end + 2] and words[end + 1] in _SMALL.keys() | _TENS.keys():
            end += 1
            word = words[end]
        if word in _TENS and (group is None or group % 100 == 0):
            group = (group or 0) + _TENS[word]
        elif word in _SMALL and (group is None or group % 100 == 0 or (group % 10 == 0 and 0 < _SMALL[word] < 10)):
            if group is not None and group % 100 == 10:
                break
            group = (group or 0) + _SMALL[word]
        elif word in ("hundred", "dozen") and group:
            group *= SCALES[word]
        elif word in SCALES and group:
            total, group = total + group * SCALES[word], 0
        else:
            break
        end += 1
    return (None, start) if group is None else (total + group, end)
