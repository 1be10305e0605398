r"""The answer of a completion as math-verify can read it: one \boxed{...}, or prose with its formulas between dollars.

math-verify takes an answer from any text, also from a box that was withdrawn, from a value that was denied, or from the
last number of a sentence that was cut off. This module finds the passage. `math_latex` normalises its spelling,
`math_prose` reads what is not boxed, and `math_values` compares.
"""

from __future__ import annotations

import re

from gdpo.grading.math_latex import to_latex
from gdpo.grading.math_prose import RETRACTED, read_prose
from gdpo.grading.math_words import number_in_words

# Text between two boxes that makes them one answer; after any other text the later box replaces the earlier one.
_JOINT = re.compile(r"[\s$\\()\[\]]*(?:,|;|,?\s*\b(?:and|or)\b)[\s$\\()\[\]]*(?:[a-z]\s*=\s*)?")

# What stands in a box that only repeats how an answer is to be given.
_PLACEHOLDER = re.compile(
    r"[\[(<]?(?:(?:insert|your|the|my|final|numerical)[ _]?)*(?:answer|result|solution|value|number|expression)?"
    r"(?: here)?[\])>]?|[._?\s\u2026]*|\\[lc]?dots|\\(?:q?quad|square|Box)|\\h?phantom\{[^{}]*\}",
    re.IGNORECASE,
)
# An empty box behind these words is an answer left out.
_STATED = re.compile(r"(?:\b(?:is|are|be|equals?|gets?|gives?|obtain)|[=:])[\s$\\(\[]*$", re.IGNORECASE)
_DENIED = re.compile(
    r"(?:\b(?:not|never|cannot|nicht|no (?:es|son)|n'est pas)|n't)"
    r"(?: (?:be|is|a|the|equal|equals|to|really|simply|just|yet|exactly|actually|correct|right|answer))*[\s$\\(\[]*$",
    re.IGNORECASE,
)
_REJECTED = re.compile(
    r"^[\s$.,;!?\\)\]}]*(?:(?:but|wait|no|hmm)\b[\s,.!]*)*(?:it|this|that|which|this answer)?\s*"
    r"(?:is|was|'s|seems|looks)(?:(?:n't| not)(?: (?:the |a )?(?:right|correct|answer|solution|possible|valid)\b|[.,!])"
    r"| (?:wrong|incorrect|false|a mistake)\b)",
    re.IGNORECASE,
)

# No sentence ends like this: the completion was cut off at its limit.
_CUT_OFF = re.compile(
    r"(?:[=+/(,]|\s\*|\\times|\\cdot"
    r"|\b(?:an|and|are|by|for|from|get|have|is|of|or|so|that|the|then|they|to|we|with))\s*$",
    re.IGNORECASE,
)

_WORDS = re.compile(r"(?=.*[a-z]{2})[a-z][a-z' -]*", re.IGNORECASE)
_ANNOUNCED_WORDS = re.compile(r"\banswer is:? ([a-z][a-z' -]{1,60}?)[.!]?$", re.IGNORECASE)


def extract_answer(answer: str) -> str | None:
    r"""The part of a final answer to read: its last \boxed{...}, with those that "and" or a comma joins to it, else the
    formula that it announces, else the whole with its formulas between dollars. None where the answer is cut off, the
    box is empty, or the value is denied."""
    text = to_latex(answer)
    if r"\boxed" in text:
        content = _boxed(text)
        return rf"\boxed{{{content}}}" if content else None
    return None if _CUT_OFF.search(text[-80:]) else read_prose(text)


def same_text(reference: str, read: str) -> bool | None:
    """Whether `read`, from `extract_answer`, is the reference, letter for letter or word for word; None where the texts
    do not decide. An answer in words may be unboxed: then a closing "the answer is ..." states it."""
    boxed = read.startswith(r"\boxed{")
    expected, found = _normalize(reference), _normalize(read[7:-1] if boxed else read)
    if found and found == expected:
        return True
    if not _WORDS.fullmatch(expected) or number_in_words(expected):
        return None
    announced = None if boxed else _ANNOUNCED_WORDS.search(found)
    if announced:
        return _plain_words(announced[1]) == _plain_words(expected)
    return True if _plain_words(found) == _plain_words(expected) else None


def _boxed(text: str) -> str | None:
    """The content of the last box that answers, after those joined to it; None where that box is never closed, is
    left empty, or is denied."""
    boxes = _boxes(text)
    while boxes and boxes[-1][2] is not None and _PLACEHOLDER.fullmatch(_normalize(boxes[-1][2])):
        start, _, content = boxes.pop()
        since = text[boxes[-1][1] : start] if boxes else ""
        stated = not _normalize(content or "") and _STATED.search(text[max(0, start - 40) : start])
        if stated or RETRACTED.search(since[:1000]):
            return None
    if not boxes or boxes[-1][2] is None:
        return None
    start, end, content = boxes[-1]
    if _DENIED.search(text[max(0, start - 80) : start]) or _REJECTED.search(text[end : end + 80]):
        return None
    joined = [content or ""]
    for (_, end, content), (start, _, _) in zip(boxes[-2::-1], boxes[:0:-1], strict=True):
        if not content or not _JOINT.fullmatch(text, end, start):
            break
        joined.insert(0, content)
    return ", ".join(dict.fromkeys(joined))


def _boxes(text: str) -> list[tuple[int, int, str | None]]:
    """Start, end and content of each box that is in no other; the content of one that is never closed is None."""
    closing = _closing_braces(text)
    boxes: list[tuple[int, int, str | None]] = []
    for box in re.finditer(r"\\boxed\s*(\{|-?\d+|[A-Za-z](?![A-Za-z]))", text):
        if boxes and box.start() < boxes[-1][1]:  # a box in a box
            continue
        end = closing.get(box.start(1))
        if text[box.start(1)] != "{":
            boxes.append((box.start(), box.end(), box[1]))
        elif end is None:
            boxes.append((box.start(), box.end(), None))
        else:
            boxes.append((box.start(), end + 1, text[box.end() : end].replace(r"\boxed", "").strip()))
    return boxes


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


def _normalize(latex: str) -> str:
    """`latex` without what changes neither its letters nor its meaning: fonts, sizes, spaces, a full stop."""
    text = re.sub(r"(?<=\d),\s+(?=\d{3}(?!\d))", ";", latex)  # a list, as 1,234 is none
    text = re.sub(r"\\(?:text(?:bf|rm|it|normal)?|mathrm|mathbf|mbox)\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\[dt]frac(?![a-zA-Z])", r"\\frac", text)
    text = re.sub(r"\\(?:left|right)(?![a-zA-Z])|\$", "", text)
    text = " ".join(re.sub(r"\\[!,;: ]|~", " ", text).split())
    return re.sub(r"(?<!\w) | (?!\w)", "", text).rstrip(".")


def _plain_words(text: str) -> str:
    return re.sub(r"^(?:an?|the) ", "", text.lower())
