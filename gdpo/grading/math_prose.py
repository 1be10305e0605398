r"""What prose gives as its answer: the formula or the number that it announces, else its formulas between dollars."""

from __future__ import annotations

import re
from collections import deque

from gdpo.grading.math_units import MEANINGFUL, leading_unit
from gdpo.grading.math_words import number_in_words

_NUMBER = r"-?\d+(?:\.\d+|/\d+)?"
_ATOM = (
    r"(?:\\(?:frac\{[^{}]*\}\{[^{}]*\}|sqrt(?:\[\d+\])?\{[^{}]*\}|(?:pi|infty|times|cdot|pm)(?![a-zA-Z]))"
    r"|\^\{[^{}]*\}|[-+*/=^()\d]|\.(?=\d))"
)
_FORMULA = re.compile(
    rf"(?P<list>[(\[]{_NUMBER}(?:, ?{_NUMBER})+[)\]]|{_NUMBER}(?:, {_NUMBER})*,? (?:and|or) {_NUMBER})"
    rf"|{_ATOM}(?: ?{_ATOM})*"
)
_IN_DOLLARS = re.compile(r"(\$\$.*?\$\$|(?<!\\)\$(?:\\.|[^$\n\\])*\$|\\\(.*?\\\)|\\\[.*?\\\])", re.DOTALL)

# "Answer" and "is" in the languages that models answer in most; the first ones write a decimal comma.
_COMMA_NOUNS = r"antwort(?:en)?|respuestas?|réponses?|risposta|respostas?|antwoord|svar|ответ|odpowiedź|cevap|jawaban"
_NOUN = rf"(?:\banswers?|\b(?P<comma>{_COMMA_NOUNS})|đáp án|答案|答え|答|정답|답|उत्तर|الجواب|الإجابة)"
_VERB = r"(?:is|are|equals|ist|lautet|sind|es|son|est|sont|è|é|são|это|är|er)(?![\w'])"
_ASIDE = r"[^.:!?\n\d$\\]{0,40}?"
_ANNOUNCED = re.compile(
    rf"{_NOUN}(?:{_ASIDE}\s+{_VERB}|\s*[:=]|\s*(?:是|为|為|は|는|은|है))\s*:?\s*|^(?:####|A:(?=[^\n]*\Z))[^\S\n]*",
    re.IGNORECASE | re.MULTILINE,
)
# Words that announce an answer only where nothing follows it.
_STATED = re.compile(rf"\b(?:solutions?|equation|results?){_ASIDE}\s+(?:is|are)(?![\w']):?\s*", re.IGNORECASE)

# What stands between "answer" and a value that it denies, or that it is a bound of.
_BOUND = r"less|more|fewer|greater|larger|smaller|least|most(?! likely)|under|over|below|above|exceeds?|almost|nearly"
_NOT = r"not|never|neither|nor|cannot|anything but|nicht|keine?|non|no|pas|não|nie|niet|inte|ikke|не"
_DENIED = re.compile(rf"{_NOUN}[^.;!?\n\d$\\]{{0,60}}?(?:(?:n't|n'est|\b(?:{_NOT}|{_BOUND}))(?!\w)|不)", re.IGNORECASE)
_DENIED_CLAUSE = re.compile(r"(?:\b(?:not|never|nicht|false|wrong|doubt)|n't)\b[^.,;:!?\n]*\Z", re.IGNORECASE)
_DENIED_BEHIND = re.compile(r"\s*(?:では|じゃ|이|가|\s)*(?:な|あり|아니|नहीं|ist (?:es|sie) nicht)")
_NOT_BUT = re.compile(r"\b(?:not|nicht|no|non|pas|não|не) \S+?,? (?:but|sondern|sino|ma|mais|mas) ", re.IGNORECASE)
_OTHERWISE = re.compile(r"\s*,?\s*or\b[^.\n]*\d", re.IGNORECASE)
_CONTINUED = re.compile(
    r"\s*(?:times|plus|minus|over|divided|multiplied|squared|cubed|to the|mod|modulo|(?:more|less|fewer) than)\b"
)
_UNKNOWN = re.compile(
    r"\b(?:(?:do not|don't|can ?not|can't|could not|couldn't) (?:know|determine|be determined)"
    r"|(?:is|are|was|were)(?:n't| not) (?:the )?(?:right |correct )?(?:answer|solution|result|right|correct))\b",
    re.IGNORECASE,
)
RETRACTED = re.compile(r"\b(?:wait|mistake|correction|oops|wrong|incorrect)\b", re.IGNORECASE)

# Formulas in prose, piece by piece: a letter alone is a variable, a word is none.
_GROUP = r"\{(?:[^{}]|\{[^{}]*\})*\}"
_PIECE = re.compile(
    rf"\s*(?:\\[a-zA-Z]+(?:\s*{_GROUP})*|\\[%${{}}]|{_GROUP}|\d+(?:[.,]\d+)*|\.\d+|[-+*/=^()\[\]|<>_!%]"
    r"|[€£¥₹$](?=\s*[\d.])|(?:sqrt|pi|sin|cos|tan|log|ln|exp)(?![a-zA-Z])|[a-zA-Z](?![a-zA-Z'])"
    r"|,?\s+(?P<joint>and|or)\s+(?=[-\d(\\$]|[a-zA-Z]\b(?!'))|,\s*(?=[-\d\\(]|pi\b|sqrt\b|[a-zA-Z]\s*=))"
)
_PROSE_WORD = re.compile(r"(?<![\\a-zA-Z{])(?:[a-z]{3,}|is|in|of|to|at|on|by) ")  # between $5 and $7
_LETTERS = re.compile(r"(?<=\d)[a-z]{2,4}(?![a-zA-Z'])")  # variables side by side: 2xy
_LETTER = re.compile(r"\s*(?:(?:option|choice) )?\(?(?:[A-H][).:]|[a-h]\))\s+(?=[-\d$\\(.])")
_QUOTES = re.compile(r"^([`'\"“*_]{1,3})(?=\S)([^`'\"“”*_\n]+)[`'\"”*_]{1,3}")
_NEAR = 80  # characters before or behind in which a word is about this


def read_prose(text: str) -> str | None:
    r"""\boxed{...} with what prose announces; else the prose with its formulas between dollars; None where the value
    is denied or taken back."""
    text = re.sub(r"\bnegative (?=\d)", "-", _NOT_BUT.sub("", text))
    announced = _last(_ANNOUNCED, text)
    denied = _last(_DENIED, text)
    if denied and (announced is None or denied.start() >= announced.start()):
        return None
    if announced is None:
        return None if _UNKNOWN.search(text[-200:]) else _stated(text) or _with_dollars(text, 0)
    start, end = announced.span()
    if _DENIED_CLAUSE.search(text[max(0, start - _NEAR) : start]):
        return None
    passage = text[end : end + 500].partition("\n\n")[0]
    if announced["comma"]:
        passage = re.sub(r"(?<![\d,.])(\d+),(\d{1,2}|\d{4,})(?![\d,])", r"\1.\2", passage)
    found = _announced_formula(passage)
    if found is None:
        return _with_dollars(text, end)
    formula, rest = found
    taken_back = RETRACTED.search(rest[:200]) and re.search(r"\d", rest)
    other = _DENIED_BEHIND.match(rest) or _OTHERWISE.match(rest) or _CONTINUED.match(rest)
    return None if not formula or taken_back or other else _boxed(formula, rest)


def _stated(text: str) -> str | None:
    """The formula behind "the solutions are" and the like, where the text ends with it."""
    stated = _last(_STATED, text)
    found = _announced_formula(text[stated.end() : stated.end() + 500]) if stated else None
    return _boxed(*found) if found and re.fullmatch(r"[\s.!$)\]]*", found[1]) and "=" in found[0] else None


def _boxed(formula: str, rest: str) -> str:
    unit = leading_unit(rest)
    return rf"\boxed{{{formula}\text{{ {unit}}}}}" if unit else rf"\boxed{{{formula}}}"


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


def _announced_formula(passage: str) -> tuple[str, str] | None:
    """The formula or the number in words that a passage begins with, and what follows it; None without one. One that
    goes on in words, which no rule here reads, is empty."""
    passage = re.sub(r"(?<=\d)(?:st|nd|rd|th)\b", "", passage)
    passage = re.sub(r"^(?:minus|negative) (?=[\d\\.$])", "-", _QUOTES.sub(r"\2", passage))
    letter = _LETTER.match(passage)
    passage = passage[letter.end() :] if letter else re.sub(r"^(?:an?|either|both) (?=[\d$\\-])", "", passage)
    words = number_in_words(passage)
    if words and re.match(r"[\s.,;:!?)*$]|$", words[1]) and not MEANINGFUL.match(words[1].strip()):
        return words
    dollars = _IN_DOLLARS.match(passage)
    if dollars and not _PROSE_WORD.search(dollars[0]):
        rest = passage[dollars.end() :]
        joined = re.match(r"\s*(?:,|and\b|or\b|[-+*/=^])", rest)
        inside = dollars[0].strip("$") if dollars[0][0] == "$" else dollars[0][2:-2]
        return None if joined and re.search(r"[$\\\d]", rest[:40]) else (inside, rest)
    end, joint = _formula_end(passage)
    formula, rest = passage[:end], passage[end:]
    attached = re.search(r"\w$", formula) and re.match(r"[a-zA-Z]", rest) and not leading_unit(rest)
    if attached or re.search(r"[+*/=^<>]\s*$", formula):
        return "", rest  # it goes on in words
    if re.match(r"[^.\n]*=\s*[\\$-]*\d|\s*[\\{}&']", rest):  # a sum of amounts, whose result stands last; LaTeX
        return None
    if re.match(r"\s*[A-Za-z]", rest):  # prose goes on: a list without "and" ends before it, and so does an article
        formula = formula if joint else re.split(r",(?!\d{3})", formula)[0]
        formula = re.sub(r"\s+[aI]$", "", formula)
    formula = re.sub(r"[\s(\[+*/=^,<>|-]+$|!$", "", formula).strip()
    if not re.search(r"[\d\\=]", formula) and not (formula and re.fullmatch(r"[\s.!]*", rest)):
        return None
    return formula, passage[len(formula) :] if passage.startswith(formula) else rest


def _formula_end(passage: str) -> tuple[int, bool]:
    """Where the formula that a passage begins with ends, and whether "and" or "or" joins its parts."""
    end, joint = 0, False
    while True:
        piece = _PIECE.match(passage, end)
        letters = None if piece else _LETTERS.match(passage, end)
        if piece:
            end, joint = piece.end(), joint or bool(piece["joint"])
        elif letters and not leading_unit(letters[0]):
            end = letters.end()
        else:
            return end, joint


def _with_dollars(text: str, start: int) -> str:
    """Prose with its formulas between dollars: where an answer is announced, the one at `start`, else each."""
    text = re.sub(r"\^\{?\\circ\}?(?:\\text\{[CF]\})?", "", text)
    if start:
        formula = _FORMULA.match(text, start)
        return text[:start] + _dollars(formula) + text[formula.end() :] if formula else text
    parts = _IN_DOLLARS.split(text)
    parts[::2] = [_FORMULA.sub(_dollars, part) for part in parts[::2]]
    return "".join(parts)


def _dollars(formula: re.Match[str]) -> str:
    """The formula between dollars where LaTeX is needed to read it; a plain number is left as it stands."""
    found = formula[0]
    if found.count("(") != found.count(")"):
        found = found.strip("()")
    needed = formula["list"] or "\\" in found or re.search(r"\d\^", found)
    return formula[0].replace(found, f"${found}$", 1) if needed else formula[0]
