"""The picture of README.md: questions -> MetaKL -> the teacher's groups -> GDPO -> before and after.

SVG is written by hand from boxes, so that the same numbers give the same bytes and no drawing library is needed.
"""

from __future__ import annotations

from xml.sax.saxutils import escape

WIDTH, HEIGHT = 1000, 282
TOP, TALL, WIDE, GAP = 58, 212, 176, 24  # of a box, in pixels
INK, MUTED, FRAME, PAPER, ACCENT, BAD = "#1f2933", "#52606d", "#cbd2d9", "#f5f7fa", "#0b7285", "#c92a2a"
FONT = "Helvetica, Arial, 'DejaVu Sans', sans-serif"

# Each box: its title, and lines of (text, colour); the example is made up.
BOXES: list[tuple[str, list[tuple[str, str]]]] = [
    (
        "Questions",
        [("math, general, safety", INK), ("", INK), ("What is 17 + 25?", MUTED), ("Who wrote Faust?", MUTED)],
    ),
    (
        "MetaKL",
        [
            ("names each one's skills,", INK),
            ("tests what the student", INK),
            ("knows, and chooses", INK),
            ("questions to learn", ACCENT),
            ("and questions to keep", ACCENT),
        ],
    ),
    (
        "Teacher's groups",
        [
            ("answers with rewards", INK),
            ("", INK),
            ("17 + 25 = 42    2.0", ACCENT),
            ("42              1.4", ACCENT),
            ("17 + 25 = 32    0.0", BAD),
        ],
    ),
    (
        "GDPO",
        [
            ("raises better answers", INK),
            ("against worse ones,", INK),
            ("measured from the", INK),
            ("untrained student;", INK),
            ("the student samples", ACCENT),
            ("nothing", ACCENT),
        ],
    ),
]


def picture(caption: str, before: float, after: float) -> str:
    """The SVG; `before` and `after` are scores in percent, whose bars are drawn to scale."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="From questions to a trained student" font-family="{FONT}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="white"/>',
        _text(
            WIDTH / 2, 36, "Teach a small model to reason, and measure what it forgets", 20, INK, "middle", bold=True
        ),
    ]
    for place, (title, lines) in enumerate(BOXES):
        parts += [*_box(place, title), *_lines(place, lines), _arrow(place)]
    parts += [*_box(len(BOXES), "Before / after"), *_bars(len(BOXES), caption, before, after)]
    return "\n".join([*parts, "</svg>", ""])


def _left(place: int) -> int:
    return 12 + place * (WIDE + GAP)


def _box(place: int, title: str) -> list[str]:
    frame = (
        f'<rect x="{_left(place)}" y="{TOP}" width="{WIDE}" height="{TALL}" rx="8" fill="{PAPER}" stroke="{FRAME}"/>'
    )
    return [frame, _text(_left(place) + WIDE / 2, TOP + 30, title, 17, INK, "middle", bold=True)]


def _lines(place: int, lines: list[tuple[str, str]]) -> list[str]:
    """The lines; what has several spaces in a row is a row of an answer and its reward, at either side."""
    drawn = []
    for i, (text, colour) in enumerate(lines):
        y, (left, _, right) = TOP + 64 + 22 * i, text.partition("  ")
        if left:
            drawn.append(_text(_left(place) + 14, y, left, 13, colour))
        if right:
            drawn.append(_text(_left(place) + WIDE - 14, y, right.strip(), 13, colour, "end", bold=True))
    return drawn


def _arrow(place: int) -> str:
    x, y = _left(place) + WIDE + 3, TOP + TALL / 2
    return f'<path d="M{x} {y - 7} L{x + 17} {y} L{x} {y + 7} Z" fill="{ACCENT}"/>'


def _bars(place: int, caption: str, before: float, after: float) -> list[str]:
    floor, full = TOP + 166, 110  # the height of 100 percent
    parts = []
    for i, (name, score, colour) in enumerate((("before", before, MUTED), ("after", after, ACCENT))):
        x, tall = _left(place) + 28 + 66 * i, full * score / 100
        parts += [
            f'<rect x="{x}" y="{floor - tall:.1f}" width="54" height="{tall:.1f}" fill="{colour}"/>',
            _text(x + 27, floor - tall - 6, f"{score:.1f}", 13.5, INK, "middle", bold=True),
            _text(x + 27, floor + 17, name, 13.5, INK, "middle"),
        ]
    first, _, second = caption.partition(", ")
    middle = _left(place) + WIDE / 2
    return [*parts, _text(middle, floor + 34, f"{first}: {second}", 10.5, MUTED, "middle")]


def _text(x: float, y: float, text: str, size: float, colour: str, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    place = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}"'
    return f'<text {place} font-size="{size}" fill="{colour}"{weight}>{escape(text)}</text>'
