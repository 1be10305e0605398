r"""Spelling of math answers: the glyphs, separators and program notation that people and models write, in LaTeX."""

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
        "º": "°",
    }
    | {"÷": "/", "·": r"\cdot ", "⋅": r"\cdot ", "π": r"\pi ", "∞": r"\infty ", "±": r"\pm ", "∈": r"\in "}
    | {"≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∩": r"\cap ", "∅": r"\emptyset ", "…": r"\ldots "}
    | {letter: rf"\mathbb{{{name}}}" for letter, name in zip("\u2115\u2124\u211a\u211d\u2102", "NZQRC", strict=True)}
)
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
# Joiners, marks of direction, byte order marks and the like, and variants of a glyph: they show nothing.
_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e"
                        "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e007f]")  # fmt: skip

_FONT = r"\\(?:math(?:bf|sf|tt|it|rm|normal)|text(?:bf|it|sf|tt|rm|normal)?|boldsymbol|bm|emph|underline|mbox)"
_FUNCTIONS = "ln|log|sin|cos|tan|cot|arcsin|arccos|arctan|exp"


def to_latex(text: str) -> str:
    """`text` with its mathematical glyphs, mixed numbers and 4.5e33 in LaTeX, and thousands without separators."""
    text = _INVISIBLE.sub("", text)
    text = re.sub("[¼-¾⅐-⅞]", lambda glyph: _fraction(*unicodedata.normalize("NFKC", glyph[0]).split("\u2044")), text)
    text = re.sub("[⁰¹²³⁴-⁹⁺⁻]+", lambda raised: f"^{{{raised[0].translate(_RAISED)}}}", text)
    text = re.sub(r"√\s*(?:\(([^()]*)\)|(\d+|[a-z]))", lambda root: rf"\sqrt{{{root[1] or root[2]}}}", text)
    text = re.sub(r"(?<![\w)\]}.])[\u2010-\u2015](?=\d)", "-", text)  # a dash between numbers is a range
    text = _thousands(text, "[\u00a0\u2009\u202f]")
    text = unicodedata.normalize("NFKC", text.translate(_GLYPHS)).translate(_GLYPHS)
    text = re.sub(r"\s?°\s?([CF]\b)?", lambda degree: r"^\circ" + (rf"\text{{{degree[1]}}}" if degree[1] else ""), text)
    text = re.sub(r"\\text\s*\{\s*\\?\$\s*\}", "", text)
    text = re.sub(r"\\+(?:boxed|fbox)\b", r"\\boxed", text)
    text = text.replace(r"\varnothing", r"\emptyset").replace("{:}", ":")
    text = re.sub(r"\\not\s*=", r"\\ne ", text)
    text = re.sub(r"<<[^<>\n]*=[^<>\n]*>>", "", text)  # the calculator's notes in GSM8K
    text = re.sub(r"(?<![\w)*])\*\*(?=[^\s*])([^*\n]+)(?<=\S)\*\*(?![\w*])", r"\1", text)
    text = re.sub(r"<(b|i|em|strong|u|mark|code|span|p)>([^<>]*)</\1>", r"\2", text)
    text = _thousands(text, r"(?:\\[,;! ]|\{,\}|\{\\,\}|~)")
    text = re.sub(r"(?<![\d.])\d{1,3}(?:\.\d{3}){2,}(?![\d.])", lambda number: number[0].replace(".", ""), text)
    text = re.sub(r"(?<=\d)['\u2019](?=\d{3}(?!\d))", "", text)
    text = re.sub(r"(?<=\d)\{,\}(?=\d)", ".", text)  # a decimal comma
    text = re.sub(r"\{([-+])\}", r"\1", text)
    text = re.sub(r"(\d{1,20})\.(\d{0,20})\\overline\s*\{(\d{1,20})\}", _repeating, text)
    # The parser would read the e of 4.5e33 as Euler's number.
    text = re.sub(r"(?<=\d)[eE]([+-]?\d+)\b", r" \\times 10^{\1}", text)
    text = re.sub(r"(?<=\d) ?x ?10\^([+-]?\d+)", r" \\times 10^{\1}", text)
    return re.sub(r"(?<![\d.,/^])(\d+) (\d+)/(\d+)(?![\d/])", _mixed, text)


def _thousands(text: str, separator: str) -> str:
    return re.sub(
        rf"(?<![\d.,])[1-9]\d{{0,2}}(?:{separator}\d{{3}})+(?![\d/])", lambda number: re.sub(r"\D", "", number[0]), text
    )


def _fraction(numerator: str, denominator: str) -> str:
    return rf"\frac{{{numerator}}}{{{denominator}}}"


def _repeating(number: re.Match[str]) -> str:
    whole, fixed, period = number.groups()
    numerator = int(whole + fixed + period) - int(whole + fixed)
    return _fraction(str(numerator), "9" * len(period) + "0" * len(fixed))


def _mixed(number: re.Match[str]) -> str:
    whole, numerator, denominator = number.groups()
    return number[0] if int(numerator) >= int(denominator) else whole + _fraction(numerator, denominator)


def plain_formula(latex: str) -> str:
    """A formula without what changes its looks alone, and with program notation in LaTeX."""
    text = re.sub(r"\.{3,}", r"\\ldots ", latex.strip().strip("$").strip())
    text = re.sub(r"(\.\d{6,})\s*\\[ld]?dots$", r"\1", text)  # digits enough to compare
    text = re.sub(r"\\(?:text)?color\s*\{\w+\}|\\(?:large|Large|displaystyle|boldsymbol|bm)(?![a-zA-Z])", "", text)
    text = re.sub(
        r"\\(?:mathrm|operatorname|mathit|rm)\s*(?:\{\s*([ei]|\\pi)\s*\}|\s([ei])(?![a-zA-Z]))", _upright, text
    )
    text = re.sub(r"^\\text\s*\{(\d[^{}]*)\}$", r"\1", text)
    text = re.sub(rf"\\(?:mathrm|operatorname)\s*\{{\s*({_FUNCTIONS})\s*\}}", r"\\\1 ", text)
    text = re.sub(_FONT + r"\s*\{([^{}A-Za-z\\]*\d[^{}A-Za-z\\]*)\}", r"\1", text)
    text = re.sub(r"\\(?:lor|vee)(?![a-zA-Z])|\u2228", r"\\text{ or }", text)
    text = re.sub(r"^(?:\\text\s*\{\s*)?(?:negative|minus)\s*\}?\s*(?=[\d\\.])", "-", text)
    text = re.sub(r"(?<=[\w)}])\s*\*\*\s*(?:(-?\w+)|\(([^()]*)\))", lambda power: f"^{{{power[1] or power[2]}}}", text)
    text = re.sub(r"\^(\d{2,})", r"^{\1}", text)
    text = re.sub(r"(?<=\d) x (?=\d)", r" \\times ", text)
    text = re.sub(r"\\text\s*\{\s*(?:percent|per cent|%|\\%)\s*\}", r"\\%", text)
    text = re.sub(r"(?<=\d)(?:\\[!,]|\s)*:(?:\\[!,]|\s)*(?=\d)", ":", text)
    text = re.sub(r"(?<=\d)\.0+(?=\s*\\?%)", "", text)  # percents are compared as whole numbers
    text = re.sub(r"(?<=\d)\s*(?:\^\s*)?\{?\s*(?:\\(?:text|mathrm)\s*\{)?\s*(?:st|nd|rd|th)\s*\}{0,2}$", "", text)
    text = _calls(text)
    text = re.sub(r"(?<![\\a-zA-Z])pi(?![a-zA-Z])", r"\\pi ", text)
    text = re.sub(rf"(?<![\\a-zA-Z{{])({_FUNCTIONS})(?=\s*[\d(])", r"\\\1 ", text)
    text = _thousands(text, "[ _]")
    return re.sub(r"(?:[.,;:\s]|\\[,;! ])+$", "", text)


def _upright(constant: re.Match[str]) -> str:
    return " " + (constant[1] or constant[2]) + " "


_CALL = re.compile(r"(?<![\\a-zA-Z])(sqrt|abs|Fraction|Rational)\s*\(")


def _calls(text: str) -> str:
    r"""A program's calls in LaTeX: sqrt(2) as \sqrt{2}, Fraction(1, 2) as \frac{1}{2}."""
    while found := _CALL.search(text):
        depth, end = 1, found.end()
        while end < len(text) and depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        inner = text[found.end() : end - 1]
        if depth or (found[1] in ("Fraction", "Rational") and inner.count(",") != 1):
            return text
        latex = {"sqrt": rf"\sqrt{{{inner}}}", "abs": f"|{inner}|"}.get(found[1]) or _fraction(*inner.split(","))
        text = text[: found.start()] + latex + text[end:]
    return text
