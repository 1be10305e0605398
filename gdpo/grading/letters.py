"""Which letter a final answer to a multiple-choice question commits to, by rules (paper: evaluation, rewards)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from gdpo.core.records import LETTERS


def chosen_letter(answer: str, choices: Sequence[str] = ()) -> str | None:
    """The choice a final answer commits to, or None: boxed, announced, leading, stated ("so B", "B is correct"),
    quoted, or alone in brackets, in this order; of several announced or stated letters the last."""
    letters = LETTERS[: len(choices)] or LETTERS
    plain = _strip_markup(answer)
    any_letter = rf"[\(\[]?[{letters}][\)\]]?"
    one = rf"[\(\[]?([{letters}])[\)\]]?"
    box = r"\\boxed\s*\{\s*(?:\\text(?:bf|rm)?\s*\{)?\s*"
    boxed: list[str] = re.findall(rf"{box}{one}\s*[^\w{{}}]*\s*\}}", plain)
    boxed += re.findall(rf"{box}{one}[.:)]", plain) + re.findall(rf"{box}\(([{letters}])\)", plain)
    if boxed:
        return boxed[-1]
    # "the answer is A bank" names no letter: a bare A or I before a lower-case word is a word. "A and B" names none.
    end = rf"(?!\w)(?!(?<=[AI]) (?!because|since|as|and|is|for)[a-z])(?! (?:and|or) {any_letter}(?!\w))"
    matches: list[str]
    for announced in (
        rf"(?i:\banswer\b(?: is)?\s*:?\s*(?:option |choice )?){one}{end}",
        rf"(?i:\b(?:choice|option)\b(?: is)?\s*:?\s*(?:option |choice )?){one}{end}(?!:)",
        rf"^(?i:choice|option)\s+{one}{end}",
    ):
        if matches := re.findall(announced, plain):
            return matches[-1]
    leading = re.match(rf"{one}(?:[.):,\]]|\s*$|\s*\n|\s+-)", plain)
    leading = leading or re.match(r"\(?([a-j])(?:\)|[.:]?$|[.:] )", plain)
    if leading and leading[1].upper() in letters:
        return leading[1].upper()
    for stated in (
        rf"\b(?:[Ss]o|[Ii]t is|[Ii]t's|I (?:would )?(?:choose|pick|prefer|select)) {one}{end}",
        rf"(?<!nor )(?<!and )(?<!or )(?<!\w){one} is (?:the )?(?:correct|right|best)\b",
        r"(?i:\b(?:answer is|option):? )(?:\(([a-j])\)|([b-j])(?=[.,]?$))",
    ):
        matches = ["".join(letter).upper() for letter in re.findall(stated, plain)]
        if matches and matches[-1] in letters:
            return matches[-1]
    if quoted := _quoted_choice(plain, choices):
        return letters[quoted - 1]
    bracketed = set(re.findall(rf"\(([{letters}])\)", plain))
    return bracketed.pop() if len(bracketed) == 1 else None


def _strip_markup(text: str) -> str:
    plain = re.sub(r"[*`$]", "", unicodedata.normalize("NFKC", text)).strip()
    # The patterns take time quadratic in the length of a gap.
    return re.sub(r"\s{9,}", lambda gap: "\n" if "\n" in gap[0] else " ", plain)


def _quoted_choice(answer: str, choices: Sequence[str]) -> int:
    """The number, from 1, of the choice whose text is the answer or its beginning, else 0."""
    texts = [fold_spaces(_strip_markup(choice)).lower() for choice in choices]
    whole = fold_spaces(answer).lower().rstrip(".")
    bare = re.sub(r"^(?:.*\banswer is:? )?(?:the )?|\\(?:boxed|text(?:bf|rm)?)\s*\{|\}", "", whole)
    first = re.split(r"[,.:;!] ", bare)[0]
    if any(text != first and re.search(rf"\b{re.escape(text)}\b", bare) for text in texts):
        first = bare
    return next((texts.index(form) + 1 for form in (whole, bare, first) if form in texts), 0)


def fold_spaces(text: str) -> str:
    """`text` with each run of white space as one space."""
    return " ".join(text.split())
