"""How answers word a choice: marks around a letter, words before and after it (paper: evaluation, rewards).

All patterns are for text that `plain` and `english` have made: no markup, straight quotes, contractions written out
and the words for "answer", "is", "not" and the like of ten other languages in English.
"""

from __future__ import annotations

import re
import unicodedata

from gdpo.grading.letter_languages import in_english

READ = 20_000  # ours: of a longer answer its beginning and its end are read

_INVISIBLE = re.compile("[\u2705\u2713\u2714\u2611\u00ad\u200b-\u200f\u2060-\u2064\ufeff\ufe0f]")
_MARKUP = re.compile(
    r"[*`$~]|\\[()\[\]]|\\displaystyle|</?(?:b|i|u|em|strong|span|p|code|mark)>"
    r"|(?<!\w)_+(?=\w)|(?<=\w)_+(?!\w)"
)
_FONT = re.compile(r"\\(?:text|math|bold|bm|emph)[a-z]*\s*\{([^{}]*)\}|\{\\(?:bf|rm|it|tt|sf)\s+([^{}]*)\}")
_MARKS = str.maketrans("\u2018\u2019\u02bc\u00b4\u3002\u2013\u2014", "''''.--", '"\u201c\u201d')

BOX = re.compile(r"\\f?box(?:ed)?\s*\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}")
TAG = re.compile(r"<(\w{0,9}(?:answer|ans|choice|final))>([^<]{0,500})(?:</\1>|$)", re.IGNORECASE)
BETWEEN = re.compile(r"[\s,/&]*(?:and|or)?[\s,/&]*")
CORRECTION = re.compile(
    r"(?i)\b(?:wait|correction|actually|on reflection|on second thoughts?|scratch that|oops)\b"
    r"|\bno,"
)
TAKEN_BACK = re.compile(r"\b(?:that|this|it|i)(?: is| was| am)? (?:wrong|not right|not correct|incorrect|mistaken)\b")


def plain(text: str) -> str:
    """`text` without markup and fonts, with straight quotes and short gaps."""
    text = unicodedata.normalize("NFKC", text.replace("\u00b4", "'")).translate(_MARKS)
    text = _MARKUP.sub("", _INVISIBLE.sub("", text)).strip()
    for _ in range(3):
        text = _FONT.sub(lambda font: font[1] or font[2] or "", text)
    # Patterns take time quadratic in the length of a gap.
    text = re.sub(r"\s{9,}", lambda gap: "\n" if "\n" in gap[0] else " ", text)
    return text if len(text) <= READ else f"{text[: READ // 10]}\n{text[-READ:]}"


def fold_spaces(text: str) -> str:
    """`text` with each run of white space as one space."""
    return " ".join(text.split())


_WRITTEN_OUT = [
    (re.compile(pattern, re.IGNORECASE), into)
    for pattern, into in (
        (r"(?<!\w)'([a-j])'(?!\w)|(?<!\w)'([a-j])(?=[.)] )", r"\1\2"),
        (r"\blet's\b", "let us"),
        (r"'ve\b", " have"),
        (r"\bcan't\b|\bcannot\b", "can not"),
        (r"\bwon't\b", "will not"),
        (r"n't\b", " not"),
        (r"'ll\b", " will"),
        (r"'d\b", " would"),
        (r"'m\b", " am"),
        (r"\b(it|that|this|what|there|here|answer)'s\b", r"\1 is"),
        (r"\b(?:no|without(?: a| any)?) (?:doubt|question)\b|\bnot only\b", "surely"),
        ("####|→|->|=>", " answer: "),
        (r", (?:therefore|then|however|thus|hence|of course|clearly|in my opinion|i think|i believe),", ""),
        (r"\b(so|hence|thus|therefore|finally|answer), ", r"\1 "),
        (r"\b(answer|ans|choice|option)(?: - | ?:?\s*\n\s*)", r"\1: "),
        (r"\b(no one|nobody)\b", "nobody"),
    )
]
_LOWER = re.compile(
    r"\b((?:(?:answer|ans|option|choice|letter)s?\b(?: is)?:?|it is|i think|i choose|i pick|choose|pick|select) ?)"
    r"(?:\(([a-j])\)|([a-j])(?=[.,;:!]*(?:\s*$|\n|[.,;:!])))",
    re.IGNORECASE,
)


def english(text: str) -> str:
    """Plain `text` with contractions written out, and with English words for other languages' words about answers."""
    text = in_english(text)
    for pattern, into in _WRITTEN_OUT:
        text = pattern.sub(into, text)
    text = re.sub(r"[ \t]+", " ", text)
    return _LOWER.sub(lambda found: found[1] + (f"({found[2]})" if found[2] else found[3]).upper(), text)


# What stands before a letter, up to it, or after it, from it on; all in lower case.
_SURE = (
    r" (?:most |quite )?(?:most likely|likely|probably|definitely|clearly|indeed|simply|just|certainly|surely"
    r"|obviously|undoubtedly"
    r"|therefore|thus|hence|then|now|also|really|only|all|both)"
)
_SURELY = f"(?:{_SURE})*"
OPTION = (
    r"(?: (?:the )?(?:(?:answer|final|correct|right|best) )?(?:option|choice|letter|answer|number|alternative)s?:?"
    r"| the)?"
)
_NOUN = (
    r"(?:answer|ans|choice|option|pick|guess|vote|selection|solution|conclusion|response|decision|letter|fit|match"
    r"|(?:correct|right|best|remaining|true|only) one)"
)
_PICK = (
    r"(?:choose|chose|pick|picked|select|selected|prefer|go with|going with|went with|go for|vote for|settle on|opt for"
    r"|decide on|decided on|stick with|say|guess|think|believe|conclude|answer|favou?r|choosing|picking|selecting)"
)
_SO = r"(?:so|hence|thus|therefore|finally|ergo|in conclusion|in short)"
_LEADS_TO = (
    r"(?:points? (?:to|towards?)|match(?:es)?|corresponds? to|leaves|leaving|leads? to|supports?|suggests?|indicates?"
    r"|left with"
    r"|down to|favou?rs)(?: us| me| only| just| with)*"
)

ALONE = r"(?:[->\u2022#] ?|(?:letter|choice|surely|definitely|probably|clearly|certainly|obviously|yes|ok|well),? )*"
SENTENCE = re.compile(r"[^.!?;\n]*(?:\.(?!\s|$)[^.!?;\n]*)*[.!?;\n]*")
VERB = (  # after A these make it a letter, any other word an article
    r"(?:is|are|was|were|and|or|nor|because|since|as|for|but|so|can|could|would|should|must|will|may|might|has|does|do"
    r"|seems|looks|appears|fits|fails|contradicts|remains|rather|over|it|not|being|to|with|instead|then|wins|if|when|while)"
)
CUT = re.compile(
    r"[,()]| - |: (?=.)|\b(?:but|so|hence|thus|therefore|because|since|as|although|though|while|whereas|and)(?= |$)"
)
EXCEPTED = re.compile(
    r"\b(all|any|every|each|no|none|nothing)(?:\w*)(?: [\w']+){0,4}? (?:but|except(?: for)?|other than|besides|save)"
    rf"{OPTION}$"
)
BUT = re.compile(rf"\bnot\b.*\bbut(?: rather)?{OPTION}$")
OR = re.compile(rf"^(?:or|and)(?: maybe| perhaps| possibly| even)?{OPTION}$")
NOUN_ALONE = re.compile(r"^(?:the |my |our )?(?:final |correct |right |best )?(?:answer|ans|choice|pick|option)$")
ANNOUNCED = re.compile(
    rf"\b{_NOUN}s?(?: (?:to|for|of) [\w ']{{1,40}}?)?(?: [\w']+){{0,4}}? (?:is|are|was|be|being|remains|becomes|to)"
    rf"{_SURELY}:?{OPTION}$"
    rf"|^(?:correct|right) ?(?:is|:){OPTION}$|\b{_NOUN} ?[:=]{OPTION}$"
    rf"|(?:^(?:{_SO} |please |now |let us |let me |and |but )*|\b(?:i|we)(?: \w+){{0,4}}? ){_PICK}(?: that)?(?: it is)?"
    rf":?{OPTION}$"
)
STATED = re.compile(
    rf"^(?:and |but )?{_SO}(?: {_SO})*:?{OPTION}$|\b{_LEADS_TO}{OPTION}$"
    rf"|\b(?:it|this|that){_SURELY} (?:is|must be|has to be|would be|should be|will be|can only be){_SURELY}{OPTION}$"
)
LEADS_IN = re.compile(  # the letter after it may be the subject of what follows
    rf"(?:^|\b(?:that|only|and|but|say|think|believe|conclude|know|see|yes|then|while|because|since|as|{_SO})){OPTION}$"
    r"|^(?:the )?(?:option|choice|letter|answer)$"
)
NEGATED = re.compile(
    r"\b(?:not|never|neither|nor|hardly|no|none|nobody|nothing|impossible|unlikely|wrong|incorrect|false|worst|least|refuse"
    r"|against|eliminat\w+|exclud\w+|reject\w*|discard\w*|dismiss\w*|rul(?:e|ed|ing) out|cross(?:ed)? out|instead of"
    r"|rather than|over|unlike|except|doubt\w*|avoid|without)\b"
)
HEDGED = re.compile(
    r"\b(?:could|might|may|can(?! only| conclude| say| see| safely)|if|whether|either|between|first"
    r"|initial\w*|earlier|previous\w*|tempt\w*|unless"
    r"|suppose|my (?:\w+ )?(?:answer|choice|guess) was"
    r"|(?:people|students?|others|many|some|they|he|she|you|one)(?: \w+)?"
    r" (?:think|thinks|say|says|believe|believes|choose|pick))\b"
)
_BE = r"(?: (?:is|are|was|were|be|been|seems?|looks?|appears?|must|should|would|will|can|could|has|have|to|a|the))"
WRONG_AFTER = re.compile(
    rf"^:?(?:{_BE}|{_SURE}| do| does| did)* not\b(?! only)"
    rf"|^:? ?-?(?:{_BE}|{_SURE})* ?(?:wrong|incorrect|false|excluded|eliminated|ruled out|rejected|impossible"
    r"|absurd|out|invalid|worst|least|unlikely|fails?|contradicts?|no$)\b"
    r"|^ it is not\b"
)
_MOST = r"most (?:likely|plausible|probable|appropriate|suitable|accurate|reasonable|logical|fitting|sensible)"
_FIT = r"(?:choice|answer|option|fit|match)"
ONLY = re.compile(rf"\bonly{OPTION}$")
FITS = re.compile(r"^ (?:fits|matches|works|satisfies|makes|explains|agrees|is possible|can be)\b")
RIGHT_AFTER = re.compile(
    r"^:?(?: (?:is|are|was|be|must|should|would|will|has to|have to|seems|appears|looks|to)|"
    rf"{_SURE})+(?: (?:(?:the|my|our|single|only|most|one|final) )*(?:correct|right|best|true|better"
    rf"|{_MOST}|{_NOUN}s?"
    rf"|one(?! of)|what (?:i|we)(?: would)? {_PICK})(?![\w-])| an? (?:\w+ )?{_FIT}\b)"
    r"|^ it is$|^ (?:remains|is left|wins|works|works best|makes (?:the )?most sense|fits best"
    r"|is more (?:accurate|likely|precise|plausible))$"
    r"|^ -? ?(?:my )?(?:final|correct|right)(?: answer| choice)?$"
)
