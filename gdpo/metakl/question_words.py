r"""The words of a question as contamination compares them: one spelling for fonts, glyphs, LaTeX and numbers.

Figures as code are left out. \dfrac{1}{2}, ½ and "one half" are the same words, and so are 10{,}000, 10,000 and "ten
thousand", 2% and 0.02. An English word stands for its stem, cut off after seven letters: what matters is that the
forms of a word agree, and it matters little that a few words share a stem.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from gdpo.grading.math_latex import to_latex
from gdpo.grading.math_words import number_in_words

_DRAWING = re.compile(r"\[asy\].*?(?:\[/asy\]|$)|\\begin\{tikzpicture\}.*?(?:\\end\{tikzpicture\}|$)", re.DOTALL)
_LOOKS = re.compile(
    r"\\(?:left|right|[bB]igg?|displaystyle|textstyle|limits|q?quad|math(?:rm|bf|it|cal|bb)|text(?:bf|it|rm)?|emph|mbox"
    r"|operatorname|bm|boldsymbol|overline|rm|bf|begin|end|[hv]space|phantom)(?![a-zA-Z])\*?|\\[,;:! ]|\\?\$|\\[()\[\]]"
    r"|</?[a-z]{1,6}>|[*_]{2,}"
)
_THOUSANDS = re.compile(r"(?<=\d)(?:,|\{,\}|\\,|\\!)+(?=\d{3}(?!\d))")
_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{([^{}]*)\}|(\w))\s*(?:\{([^{}]*)\}|(\w))")
_SUBSCRIPT = re.compile(r"_(\d)(?=\d)")  # TeX takes one digit: \log_264 is \log_2 64
_NUMBER_WORD = re.compile(
    r"\b(?:a (?:third|quarter|hundred|thousand|million)|half|zero|one|two|three|four|five|six|seven|eight|nine|ten"
    r"|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|(?:twen|thir|for|fif|six|seven|eigh"
    r"|nine)ty)\b"
)
_LONGEST_NUMBER = 80  # characters of a number in words
_WORD = re.compile(r"\d+(?:\.\d+)?%?|\.\d+%?|[^\W\d_]+|<=|>=|!=|[-+*/^=<>|!%]|[.?;:\n]")
_BREAKS = frozenset(".?;:\n")
_SPELLINGS = {
    "cdot": "*", "times": "*", "div": "/", "leq": "<=", "le": "<=", "geq": ">=", "ge": ">=", "neq": "!=", "ne": "!=",
    "dots": "ldots", "cdots": "ldots", "degree": "circ", "degrees": "circ", "percent": "%", "lvert": "|", "rvert": "|",
    "vert": "|", "varnothing": "emptyset",
}  # fmt: skip
_ENDINGS = (("ies", "y"), ("sses", "ss"), ("ing", ""), ("ed", ""), ("es", ""), ("ly", ""), ("s", ""))
_STEM = 7  # letters


def sentences(text: str) -> list[list[str]]:
    """The words of each sentence of `text`, in their order: letters in lower case, numbers, and operators.

    A sentence ends at a full stop, question mark, colon, semicolon or line break, and none is empty.
    """
    found: list[list[str]] = [[]]
    for token in _WORD.findall(_spelled(text)):
        if token in _BREAKS:
            if found[-1]:
                found.append([])
        elif token[-1].isdigit() or token[0].isdigit():
            found[-1].append(_number(token))
        else:
            found[-1].append(_SPELLINGS.get(token, token))
    if not found[-1]:
        found.pop()
    return found


@cache
def stem(word: str) -> str:
    """What the forms of an English word share: "representing" and "representation" are `represe`. Others stay."""
    if len(word) > 3 and word.isalpha():
        for ending, instead in _ENDINGS:
            if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith(("ss", "us", "is")):
                word = word.removesuffix(ending) + instead
                break
        if len(word) > 3 and word.endswith("e"):
            word = word[:-1]
        if len(word) > 3 and word[-1] == word[-2]:
            word = word[:-1]
    return word[:_STEM] if word.isalpha() else word


def is_number(word: str) -> bool:
    return word[0].isdigit()


def _spelled(text: str) -> str:
    """`text` in one spelling, in lower case."""
    text = _DRAWING.sub(" ", text)
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", to_latex(text))
        text = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    text = _SUBSCRIPT.sub(r"_\1 ", _THOUSANDS.sub("", _LOOKS.sub(" ", text))).lower()
    for _ in range(2):  # one within another
        text = _FRACTION.sub(lambda part: f" {part[1] or part[2]} / {part[3] or part[4]} ", text)
    return _in_digits(text.replace("\\%", "%"))


def _in_digits(text: str) -> str:
    """`text` with its numbers in words as digits."""
    parts, end = [], 0
    for found in _NUMBER_WORD.finditer(text):
        if found.start() < end:
            continue
        passage = text[found.start() : found.start() + _LONGEST_NUMBER]
        if read := number_in_words(passage):
            number, rest = read
            parts += [text[end : found.start()], " ", re.sub(r"\\frac\{(\d+)\}\{(\d+)\}", r"\1 / \2", number), " "]
            end = found.start() + len(passage) - len(rest)
    return "".join(parts) + text[end:]


def _number(token: str) -> str:
    """A number without the zeros that change nothing; a percentage as a decimal."""
    number = token.removesuffix("%")
    if token.endswith("%"):
        return f"{float(number) / 100:g}"
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    whole, point, decimals = number.partition(".")
    return (whole.lstrip("0") or "0") + point + decimals
