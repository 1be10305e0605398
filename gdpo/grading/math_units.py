r"""The units of math answers: what stands beside a value, and whether two units contradict each other.

A unit that only one of reference and answer names is left out: the question has asked for it. Units that both name
must be the same (12 cm is not 12 m). A qualifier (AM, BC, north) changes what the value means: where the reference has
one, the answer has it too. A scale (5 million) is part of the value. Other words, such as what is counted, are left
out; words that change the meaning (or, less, base) are no unit.
"""

from __future__ import annotations

import re

from gdpo.grading.math_words import SCALES

_NAMES = {
    "millimetre": "mm millimeter millimetre",
    "centimetre": "cm centimeter centimetre",
    "decimetre": "dm decimeter decimetre",
    "metre": "m meter metre mtr",
    "kilometre": "km kilometer kilometre",
    "nanometre": "nm nanometer nanometre",
    "inch": "in inch inche",
    "foot": "ft foot feet",
    "yard": "yd yard",
    "mile": "mi mile",
    "second": "s sec second",
    "millisecond": "ms millisecond",
    "minute": "min minute",
    "hour": "h hr hour",
    "day": "day",
    "week": "wk week",
    "month": "month",
    "year": "yr year",
    "milligram": "mg milligram",
    "gram": "g gm gram",
    "kilogram": "kg kilogram kilo",
    "tonne": "t ton tonne",
    "pound": "lb lbs pound",
    "ounce": "oz ounce",
    "millilitre": "ml milliliter millilitre",
    "litre": "l liter litre",
    "gallon": "gal gallon",
    "pint": "pint",
    "quart": "qt quart",
    "cup": "cup",
    "teaspoon": "tsp teaspoon",
    "tablespoon": "tbsp tablespoon",
    "bit": "bit",
    "byte": "byte",
    "kilobyte": "kb kilobyte",
    "megabyte": "mb megabyte",
    "gigabyte": "gb gigabyte",
    "calorie": "cal calorie",
    "kilocalorie": "kcal kilocalorie",
    "electronvolt": "ev electronvolt",
    "coulomb": "c coulomb",
    "light-year": "ly lightyear",
    "knot": "kn knot",
    "acre": "acre",
    "hectare": "ha hectare",
    "degree": "degree deg",
    "celsius": "degree deg celsius c",
    "fahrenheit": "degree deg fahrenheit f",
    "kelvin": "k kelvin",
    "radian": "rad radian",
    "dollar": "dollar usd buck $",
    "cent": "cent c ¢",
    "euro": "euro eur €",
    "sterling": "pound gbp £",
    "penny": "penny pence pennie p",
    "yen": "yen jpy ¥",
    "yuan": "yuan cny rmb ¥",
    "rupee": "rupee rs inr ₹",
    "won": "won krw ₩",
    "rouble": "ruble rouble rub ₽",
    "newton": "n newton",
    "joule": "j joule",
    "kilojoule": "kj kilojoule",
    "watt": "w watt",
    "kilowatt": "kw kilowatt",
    "volt": "v volt",
    "ampere": "a amp ampere",
    "ohm": "ohm ω",
    "hertz": "hz hertz",
    "pascal": "pa pascal",
    "mole": "mol mole",
    "percent": "%",
    "am": "am midnight",
    "pm": "pm noon",
    "bc": "bc bce",
    "ad": "ad ce",
    "north": "n north",
    "south": "s south",
    "east": "e east",
    "west": "w west",
}
_QUALIFIERS = frozenset({"am", "pm", "bc", "ad", "north", "south", "east", "west"})
_MEANINGS: dict[str, frozenset[str]] = {}
for _name, _spellings in _NAMES.items():
    for _spelling in _spellings.split():
        _MEANINGS[_spelling] = _MEANINGS.get(_spelling, frozenset()) | {_name}

# Words that change what a value means; beside one of them a value is not read alone.
MEANINGFUL = re.compile(
    r"\b(?:or|and|not|no|never|mod|modulo|base|if|when|where|for|such|than|more|less|fewer|greater|least|most|above|below"
    r"|over|under|between|except|undefined|times|plus|minus|per\s*cent|percent|of|is|are|to|at|by|that|which|who)\b",
    re.IGNORECASE,
)

_PERIODS = (
    (r"\bin the morning\b", "am"),
    (r"\bin the (?:afternoon|evening)\b", "pm"),
    (r"\bkmp?h\b|\bkph\b", "km/h"),
    (r"\bmph\b", "mi/h"),
    (r"\b([abp])\s*\.?\s*([mdc])\b\.?", r"\1\2"),
    (r"\b(?:sq|square)\b\.?\s*([a-z]+)", r"\1^2"),
    (r"\b(?:cu|cubic)\b\.?\s*([a-z]+)", r"\1^3"),
    (r"([a-z]+) squared\b", r"\1^2"),
    (r"([a-z]+) cubed\b", r"\1^3"),
    (r"\bdegrees?\s*(c|f)(?:elsius|ahrenheit)?\b", r"\1"),
    (r"\bdegrees?\s*(celsius|fahrenheit|kelvin)\b", r"\1"),
    (r"\bper\b", "/"),
)
_TOKEN = re.compile(r"\s*(/?)\s*([a-z$€£¥₹₩₽¢ω%]+)(?:\s*\^?\s*\{?\s*(-?\d)\s*\}?)?\s*[.·*]?\s*")

_TEXT = r"\\(?:text|textrm|textnormal|mathrm|mbox|rm)\s*\{([^{}]*)\}"
_LAST = (
    re.compile(rf"{_TEXT}\s*(?:\^\s*\{{?\s*(-?\d)\s*\}}?)?$"),
    re.compile(rf"\\[dt]?frac\s*\{{\s*{_TEXT}\s*\}}\s*\{{\s*{_TEXT}\s*(?:\^\s*\{{?\s*(\d)\s*\}}?)?\s*\}}$"),
    re.compile(r"\^\s*\{?\s*\\circ\s*\}?$"),
    re.compile(r"(?<=[\d\s~])\\Omega$"),
    re.compile(r"(?<=[\s~])([a-zA-Z][a-zA-Z]*(?:[\s./]+[a-zA-Z]+){0,3})\.?(?:\^\{?(\d)\}?)?$"),
    re.compile(r"(?<=\d)([a-zA-Z]{2,}(?:/[a-zA-Z]+)?)(?:\^\{?(\d)\}?)?$"),
)
_SYMBOL = r"(?:\\?\$|[€£¥₹₩₽]|\b(?:USD|EUR|GBP|Rs\.?)\s)"
_BEFORE = re.compile(rf"^(-?)\s*(?:\\text\s*\{{\s*)?({_SYMBOL})\s*\}}?\s*(-?)(?=[\d.])")
_SYMBOL_AFTER = re.compile(r"(\\?\$|[€£¥₹₩₽¢])$")
_SPACE = re.compile(r"(?:\s|~|\\[,;:! ]|\\q?quad)+$")
_SCALED = re.compile(rf"^\s*({'|'.join(SCALES)})\b", re.IGNORECASE)


def value_and_unit(latex: str) -> tuple[str, str]:
    """A formula's value and its unit in words, empty where it has none."""
    units: list[str] = []
    value = latex.strip()
    symbol = _BEFORE.match(value)
    if symbol:
        units.append(symbol[2].strip("\\ "))
        value = symbol[1] + symbol[3] + value[symbol.end() :]
    while (found := _last_unit(value)) is not None:
        rest, unit = found
        scaled = _SCALED.match(unit)
        if scaled:
            scale = SCALES[scaled[1].lower()]
            return _times(rest, scale), " ".join([*units, unit[scaled.end() :].strip()]).strip()
        units.insert(0, unit)
        value = rest
    return value, " ".join(units).strip()


def _times(value: str, scale: int) -> str:
    r"""`value` in units of `scale`: 2.5 million is \frac{2500000}{1}, exactly."""
    number = re.fullmatch(r"(-?\d*)\.?(\d*)", value)
    if not number or not (number[1] + number[2]).strip("-"):
        return rf"({value}) \cdot {scale}"
    total, parts = int(number[1] + number[2]) * scale, 10 ** len(number[2])
    return str(total // parts) if total % parts == 0 else rf"\frac{{{total}}}{{{parts}}}"


def _last_unit(value: str) -> tuple[str, str] | None:
    """`value` without its last unit, and that unit; None where it ends in a value."""
    tail = value[-200:]
    for number, pattern in enumerate(_LAST):
        found = pattern.search(tail)
        if not found:
            continue
        unit = _unit_of(number, found)
        bare = number >= 4
        scaled = _SCALED.match(unit)
        if not scaled and (MEANINGFUL.search(unit) or (bare and not _plain(unit))):
            return None
        rest = _SPACE.sub("", value[: len(value) - len(tail) + found.start()])
        return (rest, unit) if re.search(r"[\d}]$" if bare else r"[\d}A-Za-z)]$", rest) else None
    symbol = _SYMBOL_AFTER.search(value)
    if symbol and symbol.start():
        return _SPACE.sub("", value[: symbol.start()]), symbol[1].strip("\\")
    return None


def _unit_of(number: int, found: re.Match[str]) -> str:
    if number == 1:
        return f"{found[1]}/{found[2]}" + (f"^{found[3]}" if found[3] else "")
    if number in (2, 3):
        return ("degree", "ohm")[number - 2]
    return found[1].strip(" ~") + (f"^{found[2]}" if found[2] else "")


def _plain(unit: str) -> bool:
    """Whether letters outside of \\text are a unit: a known one, or words too long for variables."""
    words = re.sub(r"[\d^/.]", " ", unit).split()
    if len(words) == 1 and len(words[0]) == 1:
        return words[0] in ("m", "s", "g", "L", "N", "J", "W", "V")
    return _tokens(unit) is not None or all(len(word) > 3 and word.islower() for word in words)


def _tokens(unit: str) -> list[tuple[frozenset[str], int]] | None:
    """Each part of a unit as what it may mean, and its power; None where a part is not known."""
    text = unit.lower().replace("~", " ").strip(" .")
    for pattern, replacement in _PERIODS:
        text = re.sub(pattern, replacement, text)
    parts: list[tuple[frozenset[str], int]] = []
    end, below = 0, 1
    while end < len(text):
        token = _TOKEN.match(text, end)
        if not token:
            return None
        name = token[2] if token[2] in _MEANINGS else token[2].removesuffix("s")
        if name not in _MEANINGS:
            return None
        below = -1 if token[1] else below
        parts.append((_MEANINGS[name], below * int(token[3] or 1)))
        end = token.end()
    return parts


def contradict(reference: str, answer: str) -> bool:
    """Whether the answer's unit is another than the reference's, or lacks its qualifier."""
    expected, found = _tokens(reference), _tokens(answer)
    if not expected:
        return False
    if any(meanings <= _QUALIFIERS for meanings, _ in expected) and not found:
        return True
    if not found:
        return False
    rest = list(found)
    for meanings, power in expected:
        same = next((part for part in rest if part[0] & meanings and part[1] == power), None)
        if same is None:
            return True
        rest.remove(same)
    return bool(rest)


def leading_unit(text: str) -> str:
    """The unit in prose that begins with words: the longest known one, empty where there is none."""
    words = re.match(r"\s*((?:[A-Za-z][A-Za-z.]*|/|\^?\d)(?:\s*(?:[A-Za-z][A-Za-z.]*|/|\^\d)){0,4})", text)
    if not words:
        return ""
    parts = words[1].split()
    for count in range(len(parts), 0, -1):
        unit = " ".join(parts[:count]).rstrip(".,")
        scaled = _SCALED.match(unit)
        known = _tokens(unit[scaled.end() :] if scaled else unit) is not None
        if known and parts[0].lower() not in ("in", "a", "as", "s", "t", "c", "e", "f", "k", "p", "ad"):
            return unit
    return ""
