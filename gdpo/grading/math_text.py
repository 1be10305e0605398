r"""The answer of a completion as math-verify can read it: one \boxed{...}, or prose with its formulas between dollars.

math-verify takes an answer from any text, also from a box that was withdrawn, or from the last number of a sentence
that was cut off. It reads LaTeX and plain numbers, but few of the glyphs that people and models write. This module
finds the passage and normalises its spelling; math-verify compares the values.
"""

from __future__ import annotations

import re
import unicodedata

_GLYPHS = str.maketrans(
    {
        "\u2212": "-",
        "\u2044": "/",
        "\u3002": ".",
        "\u00d7": r"\times ",
        "\u222a": r"\cup ",
    }
    | {"÷": "/", "·": r"\cdot ", "⋅": r"\cdot ", "π": r"\pi ", "∞": r"\infty ", "±": r"\pm ", "∈": r"\in "}
    | {"≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∩": r"\cap ", "∅": r"\emptyset "}
)
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")

# Text between two boxes that makes them one answer; after any other text the later box replaces the earlier one.
_JOINT = re.compile(r"[\s$\\()\[\]]*(?:,|;|,?\s*\b(?:and|or)\b)[\s$\\()\[\]]*(?:[a-z]\s*=\s*)?")

# No sentence ends like this: the completion was cut off at its limit.
_CUT_OFF = re.compile(
    r"(?:[=+/(,]|\s\*|\\times|\\cdot"
    r"|\b(?:an|and|are|by|for|from|get|have|is|of|or|so|that|the|then|they|to|we|with))\s*$",
    re.IGNORECASE,
)

_NUMBER = r"-?\d+(?:\.\d+|/\d+)?"
_ATOM = (
    r"(?:\\(?:frac\{[^{}]*\}\{[^{}]*\}|sqrt(?:\[\d+\])?\{[^{}]*\}|(?:pi|infty|times|cdot|pm)(?![a-zA-Z]))"
    r"|\^\{[^{}]*\}|[-+*/=^()\d]|\.(?=\d))"
)
_FORMULA = re.compile(
    rf"(?P<list>[(\[]{_NUMBER}(?:, ?{_NUMBER})+[)\]]|{_NUMBER}(?:, {_NUMBER})*,? (?:and|or) {_NUMBER})"
    rf"|{_ATOM}(?: ?{_ATOM})*"
)
_ANNOUNCED = re.compile(r"\banswers?(?: is| are)?:? (?!.*\banswers?(?: is| are)?:? )", re.IGNORECASE | re.DOTALL)
_IN_DOLLARS = re.compile(r"(\$\$.*?\$\$|\$[^$\n]*\$|\\\(.*?\\\)|\\\[.*?\\\])", re.DOTALL)

_WORDS = re.compile(r"(?=.*[a-z]{2})[a-z][a-z' -]*", re.IGNORECASE)
_ANNOUNCED_WORDS = re.compile(r"\banswer is:? ([a-z][a-z' -]{1,60}?)[.!]?$", re.IGNORECASE)


def extract_answer(answer: str) -> str | None:
    r"""The part of a final answer to read: its last \boxed{...}, with those that "and" or a comma joins to it, else the
    whole with its formulas between dollars. None where the answer is cut off or the box is empty."""
    text = to_latex(answer)
    if r"\boxed" in text:
        content = _boxed(text)
        return rf"\boxed{{{content}}}" if content else None
    return None if _CUT_OFF.search(text[-80:]) else _with_dollars(re.sub(r"\bnot \S+,? but ", "", text))


def to_latex(text: str) -> str:
    """`text` with its mathematical glyphs, mixed numbers and 4.5e33 in LaTeX, and thousands without separators."""
    text = re.sub("[¼-¾⅐-⅞]", lambda glyph: _fraction(*unicodedata.normalize("NFKC", glyph[0]).split("\u2044")), text)
    text = re.sub("[⁰¹²³⁴-⁹⁺⁻]+", lambda raised: f"^{{{raised[0].translate(_RAISED)}}}", text)
    text = re.sub(r"√\s*(?:\(([^()]*)\)|(\d+|[a-z]))", lambda root: rf"\sqrt{{{root[1] or root[2]}}}", text)
    text = re.sub(r"(?<![\w)\]}.])[\u2010-\u2015](?=\d)", "-", text)  # a dash between numbers is a range
    text = unicodedata.normalize("NFKC", text.translate(_GLYPHS)).translate(_GLYPHS)
    text = re.sub(r"\s?°\s?(?:[CF]\b)?", "", text)
    text = re.sub(r"\\text\s*\{\s*\\?\$\s*\}", "", text)
    text = re.sub(r"\\+(?:boxed|fbox)\b", r"\\boxed", text)
    text = text.replace(r"\varnothing", r"\emptyset").replace("{:}", ":")
    text = re.sub(
        r"(?<![\d.])\d{1,3}(?:(?:\\[,;! ]|\{,\}|~)\d{3})+(?!\d)", lambda number: re.sub(r"\D", "", number[0]), text
    )
    text = re.sub(r"(\d{1,20})\.(\d{0,20})\\overline\s*\{(\d{1,20})\}", _repeating, text)
    # The parser would read the e of 4.5e33 as Euler's number.
    text = re.sub(r"(?<=\d)[eE]([+-]?\d+)\b", r" \\times 10^{\1}", text)
    text = re.sub(r"(?<=\d) ?x ?10\^([+-]?\d+)", r" \\times 10^{\1}", text)
    return re.sub(r"(?<![\d.,/^])(\d+) (\d+)/(\d+)(?![\d/])", _mixed, text)


def same_text(reference: str, read: str) -> bool | None:
    """Whether `read`, from `extract_answer`, is the reference, letter for letter or word for word; None where the texts
    do not decide. An answer in words may be unboxed: then a closing "the answer is ..." states it."""
    boxed = read.startswith(r"\boxed{")
    expected, answer = _normalize(reference), _normalize(read[7:-1] if boxed else read)
    if answer and answer == expected:
        return True
    if not _WORDS.fullmatch(expected):
        return None
    announced = None if boxed else _ANNOUNCED_WORDS.search(answer)
    if announced:
        return _plain_words(announced[1]) == _plain_words(expected)
    return True if _plain_words(answer) == _plain_words(expected) else None


def _fraction(numerator: str, denominator: str) -> str:
    return rf"\frac{{{numerator}}}{{{denominator}}}"


def _repeating(number: re.Match[str]) -> str:
    whole, fixed, period = number.groups()
    numerator = int(whole + fixed + period) - int(whole + fixed)
    return _fraction(str(numerator), "9" * len(period) + "0" * len(fixed))


def _mixed(number: re.Match[str]) -> str:
    whole, numerator, denominator = number.groups()
    return number[0] if int(numerator) >= int(denominator) else whole + _fraction(numerator, denominator)


def _boxed(text: str) -> str | None:
    """The content of the last box, after those joined to it; None where that box is never closed."""
    closing = _closing_braces(text)
    boxes: list[tuple[int, int, str | None]] = []
    for box in re.finditer(r"\\boxed\s*(\{|-?\w+)", text):
        if boxes and box.start() < boxes[-1][1]:  # a box in a box
            continue
        end = closing.get(box.start(1))
        if text[box.start(1)] != "{":
            boxes.append((box.start(), box.end(), box[1]))
        elif end is None:
            boxes.append((box.start(), box.end(), None))
        else:
            boxes.append((box.start(), end + 1, text[box.end() : end].replace(r"\boxed", "").strip()))
    if not boxes or boxes[-1][2] is None:
        return None
    joined = [boxes[-1][2]]
    for (_, end, content), (start, _, _) in zip(boxes[-2::-1], boxes[:0:-1], strict=True):
        if not content or not _JOINT.fullmatch(text, end, start):
            break
        joined.insert(0, content)
    return ", ".join(dict.fromkeys(joined))


def _closing_braces(text: str) -> dict[int, int]:
    """The index of each brace that opens a group -> that of the brace that closes it."""
    opened: list[int] = []
    closed: dict[int, int] = {}
    for brace in re.finditer(r"\\.|([{}])", text, re.DOTALL):
        if brace[1] == "{":
            opened.append(brace.start())
        elif brace[1] and opened:
            closed[opened.pop()] = brace.start()
    return closed


def _with_dollars(text: str) -> str:
    """Prose with its formulas between dollars: the announced one, or, where none is announced, each."""
    announced = _ANNOUNCED.search(text)
    if announced:
        formula = _FORMULA.match(text, announced.end())
        return text[: announced.end()] + _dollars(formula) + text[formula.end() :] if formula else text
    parts = _IN_DOLLARS.split(text)
    parts[::2] = [_FORMULA.sub(_dollars, part) for part in parts[::2]]
    return "".join(parts)


def _dollars(formula: re.Match[str]) -> str:
    """The formula between dollars where LaTeX is needed to read it; a plain number is left as it stands."""
    latex = formula[0]
    if latex.count("(") != latex.count(")"):
        latex = latex.strip("()")
    needed = formula["list"] or "\\" in latex or re.search(r"\d\^", latex)
    return formula[0].replace(latex, f"${latex}$", 1) if needed else formula[0]


def _normalize(latex: str) -> str:
    """`latex` without what changes neither its letters nor its meaning: fonts, sizes, spaces, a full stop."""
    text = re.sub(r"\\(?:text(?:bf|rm|it|normal)?|mathrm|mathbf|mbox)\s*\{([^{}]*)\}", r"\1", latex)
    text = re.sub(r"\\[dt]frac(?![a-zA-Z])", r"\\frac", text)
    text = re.sub(r"\\(?:left|right)(?![a-zA-Z])|\$", "", text)
    text = " ".join(re.sub(r"\\[!,;: ]|~", " ", text).split())
    return re.sub(r"(?<!\w) | (?!\w)", "", text).rstrip(".")


def _plain_words(text: str) -> str:
    return re.sub(r"^(?:an?|the) ", "", text.lower())
