"""Which letter a final answer to a multiple-choice question commits to, by rules (paper: evaluation, rewards).

A box or an answer's tag is read first. In prose the words just before and after a letter, or a list of letters, say
whether it is chosen, rejected or only named. Two letters at once are no choice. The wording is in `letter_words`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from gdpo.core.records import LETTERS
from gdpo.grading import letter_words as words
from gdpo.grading.letter_words import fold_spaces

REACH = 80  # ours: what says whether a letter is chosen stands this near, in characters
UNDECIDED = "??"

Stance = Literal["announced", "stated", "rejected", "named", "or"]


class Said(NamedTuple):
    """A letter, or several in a row, and what an answer says of it."""

    letters: frozenset[str]
    stance: Stance
    bracketed: bool


def chosen_letter(answer: str, choices: Sequence[str] = ()) -> str | None:
    """The choice a final answer commits to, or None: boxed or tagged, announced, leading, stated ("so B",
    "B is correct"), quoted, or alone in brackets, in this order; of several announced or stated letters the last."""
    letters = LETTERS[: len(choices)] or LETTERS
    plain = words.plain(answer)
    found = _contained(plain, letters, choices) or _committed(plain, letters)
    if found:
        return found if len(found) == 1 else None
    if quoted := _quoted_choice(plain, choices):
        return letters[quoted - 1]
    said = list(_statements(words.english(plain), letters))
    bracketed = set(re.findall(rf"\(([{letters}])\)", plain))
    rejected = {letter for one in said if one.stance == "rejected" for letter in one.letters}
    alone = any(one.bracketed for one in said) and len(bracketed) == 1 and not bracketed & rejected
    return bracketed.pop() if alone else None


def _contained(plain: str, letters: str, choices: Sequence[str]) -> str:
    """The letter in the last tag or box that holds one; UNDECIDED where that holds several or rejects one; else ""."""
    boxes = list(words.BOX.finditer(plain))
    if len(boxes) > 1 and words.BETWEEN.fullmatch(plain[boxes[-2].end() : boxes[-1].start()]):
        return UNDECIDED
    for held in (*reversed(words.TAG.findall(plain)), *((None, box[1]) for box in reversed(boxes))):
        if found := _held(words.BOX.sub(r"\1", held[1]).strip(), letters, choices):
            return found
    return ""


def _held(text: str, letters: str, choices: Sequence[str]) -> str:
    bare = re.sub(r"(?i)^(?:the )?(?:(?:final|correct) )?(?:answer|option|choice|letter)(?: is)?:? ", "", text)
    if re.fullmatch(rf"\(?[{letters}{letters.lower()}]\)?\W*", bare):
        return bare.strip("()")[0].upper()
    if quoted := _quoted_choice(text, choices):
        return letters[quoted - 1]
    if lettered := re.match(rf"\(?([{letters}])\)?(?:[.:)]| -)|\(([{letters}])\)", bare):
        named = {letter for one in _statements(bare, letters) for letter in one.letters}
        return lettered[1] or lettered[2] if len(named) == 1 else UNDECIDED
    if bracketed := re.search(rf"\w \(([{letters}])\)\W*$", text):
        return bracketed[1]
    undecided = UNDECIDED if any(_statements(words.english(text), letters)) else ""
    return _committed(text, letters) or undecided


def _committed(plain: str, letters: str) -> str:
    """The letter that prose commits to; UNDECIDED where it names several or takes one back; else ""."""
    corrected = words.CORRECTION.split(plain)[-1].lstrip(" ,.:;-")
    for part in dict.fromkeys((corrected, plain)):
        text = words.english(part).strip()
        said = list(_statements(text, letters))
        if found := _last(said, "announced") or _leading(text, said, letters) or _last(said, "stated"):
            return found
        if words.TAKEN_BACK.search(text.lower()):
            return UNDECIDED
    return ""


def _last(said: Sequence[Said], stance: str) -> str:
    """The letter last said with this stance and not rejected afterwards."""
    chosen = frozenset[str]()
    for one in said:
        if one.stance == stance:
            chosen = one.letters
        elif one.stance == "rejected":
            chosen = chosen - one.letters if len(chosen) == 1 else chosen
        elif one.stance == "or" and chosen:
            chosen |= one.letters
    return next(iter(chosen), "") if len(chosen) < 2 else UNDECIDED


def _leading(text: str, said: Sequence[Said], letters: str) -> str:
    """The letter that an answer begins with, where its first paragraph does not go through several."""
    end = r"[.:;)\]!](?!\w)|(?<!I),(?! ?[A-Z]\b| no\b)|, not|\s*$|\s*\n| +[-(]| (?:because|since|as)\b"
    upper = re.match(rf"[\(\[]?([{letters}])[\)\]]?(?:{end})", text)
    lower = re.match(r"\(?([a-j])(?:\)|[.:]?$|[.:] )", text)
    found = upper or lower
    letter = found[1].upper() if found else ""
    if not letter or letter not in letters:
        return ""
    if said and upper and (said[0].letters != {letter} or said[0].stance in ("rejected", "or")):
        return ""
    mark = rf"(?:^|(?<=[\n.;:!?,]) ?)([{letters}])(?:[.:)\]](?= )|(?=\n|$))|\(([{letters}])\)"
    marks = re.findall(mark, text.split("\n\n")[0])
    rejected = {letter for one in said if one.stance == "rejected" for letter in one.letters}
    return "" if {a or b for a, b in marks} - {letter} - rejected else letter


@lru_cache
def _groups(letters: str) -> re.Pattern[str]:
    """Letters that stand as words, alone or in a row; A and I before most words in lower case are words themselves."""
    third = "is|are|was|has|does|seems|appears|looks|fits|remains|wins|it"
    third += "|and|or|nor|but|because|since|as|for|so|rather|over|to"
    subject = rf"(?! (?!(?:{third})\b)[a-z])|(?<=ption )I|(?<=hoice )I"
    article = rf"(?!A (?!{words.VERB}\b)[a-z])"
    one = rf"(?:[\(\[][{letters}][\)\]]|{article}(?:[{letters.replace('I', '')}]|(?:I){subject})[\)\]]?)"
    one += r"(?![\w'&#-]|\.\w| ?[=+*^_\\<>\u00d7\u00b7|]| [A-HJ-Z0-9](?![a-z]))"
    singular = r"(?! (?:is|was|does|has|can|would|could|must|should|being|it is|fits?|contradicts?)\b)"
    both = rf"(?: ?,| ?/| ?&| \+)? ?(?:and|or|nor)(?: maybe| perhaps| possibly| also| then)?{words.OPTION} {one}"
    row = rf"(?: ?, (?:then )?| ?/ ?| ?& ?){one}"
    brackets = rf" ?[\(\[][{letters}][\)\]](?! ?\w)"
    return re.compile(rf"(?<![\w.°'&+/-]){one}(?:(?:{both}|{row}){singular}|(?<=[\)\]]){brackets})*")


def _statements(text: str, letters: str) -> Iterator[Said]:
    """What a text in the words of `english` says of letters, in order."""
    for sentence in words.SENTENCE.findall(text):
        for found in _groups(letters).finditer(sentence):
            named = frozenset(re.findall(rf"(?<!\w)[{letters}](?!\w)", found[0]))
            before = sentence[max(0, found.start() - REACH) : found.start()].lower().strip()
            after = sentence[found.end() : found.end() + REACH].lower().rstrip(" .!;\n")
            if sentence.endswith("?"):
                yield Said(named, "named", False)
                continue
            yield Said(named, _stance(before, after), found[0][0] == "(" and len(named) == 1)
    alone = set(re.findall(rf"(?mi:^{words.ALONE})[\(\[]?([{letters}])[\)\]]?[.)!]?\s*$", text, re.MULTILINE))
    last = re.search(rf"([^.!?;:\n]{{0,{REACH}}}[^\W\d_]{{2}}[.!?;:])\s+[\(\[]?([{letters}])[\)\]]?[.!]*$", text)
    if last and not (last[1].endswith(":") and words.NEGATED.search(last[1].rsplit(",")[-1].lower())):
        alone.add(last[2])
    if len(alone) == 1:
        yield Said(frozenset(alone), "stated", False)


def _stance(before: str, after: str) -> Stance:
    """What the words around a letter say of it."""
    if excepted := words.EXCEPTED.search(before):
        wrong = bool(words.WRONG_AFTER.search(after))
        return "stated" if wrong != (excepted[1] in ("no", "none", "nothing")) else "rejected"
    if words.BUT.search(before) and not words.WRONG_AFTER.search(after):
        return "announced"
    if re.search(r"\bif\b", before) and after.startswith(" would"):
        return "named"
    cuts = list(words.CUT.finditer(before))
    if cuts:
        before = before[cuts[-1].start() if cuts[-1][0].isalpha() else cuts[-1].end() :].strip()
    alone = not after and words.NOUN_ALONE.search(before)
    if cut := words.CUT.search(after):
        after = after[: cut.start()]
    after = after.rstrip()
    if words.WRONG_AFTER.search(after):
        return "rejected"
    announced = words.ANNOUNCED.search(before) or alone
    if before.endswith(":") and not announced:
        before = ""
    if words.NEGATED.search(before):
        return "rejected"
    if words.OR.search(before):
        return "or"
    if words.HEDGED.search(before):
        return "named"
    if announced:
        return "announced"
    right = words.RIGHT_AFTER.search(after) or (words.ONLY.search(before) and words.FITS.search(after))
    if (words.STATED.search(before) and (right or not after)) or (words.LEADS_IN.search(before) and right):
        return "stated"
    return "named"


def _quoted_choice(answer: str, choices: Sequence[str]) -> int:
    """The number, from 1, of the choice whose text is the answer or its beginning, else 0."""
    texts = [fold_spaces(words.plain(choice)).lower() for choice in choices]
    whole = fold_spaces(answer).lower().rstrip(".")
    bare = re.sub(r"^(?:.*\banswer is:? )?(?:the |an? )?|\\(?:boxed|text(?:bf|rm)?)\s*\{|\}", "", whole)
    first = re.split(r"[,.:;!] ", bare)[0]
    if any(text != first and re.search(rf"\b{re.escape(text)}\b", bare) for text in texts):
        first = bare
    return next((texts.index(form) + 1 for form in (whole, bare, first) if form in texts), 0)
