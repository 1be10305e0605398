"""Tables and text in Markdown: the same bytes for the same values, and safe from markup in names and questions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MARKUP = "\\|<`*"  # ends a cell, or begins a tag, code or emphasis
SPECIAL = MARKUP + "[$"  # begins a link or a formula too


def escape(text: str, special: str = SPECIAL) -> str:
    """`text` on one line with a backslash before each character of `special`.

    Tables of scores escape MARKUP alone: their intervals, such as `[1.0, 2.0]`, stay as they are.
    """
    return "".join(f"\\{character}" if character in special else character for character in " ".join(text.split()))


def cell(value: object) -> str:
    """`value` escaped for a cell. Whole numbers have thousands separators; None and the empty text are a dash."""
    if value is None or value == "":
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return escape(str(value))


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], labels: int = 1) -> str:
    """A table of values, escaped. Its first `labels` columns are text, the others numbers, aligned to the right."""
    return "\n".join(table_lines(heads, [[cell(value) for value in row] for row in rows], labels))


def table_lines(
    heads: Sequence[str], rows: Sequence[Sequence[str]], labels: int | None = None, padded: bool = False
) -> list[str]:
    """The lines of a table whose heads and cells are Markdown already.

    Args:
        heads: The titles of the columns.
        rows: As many cells in each row as there are heads.
        labels: How many of the first columns are text. The others are numbers, aligned to the right. None: no column
            has an alignment.
        padded: Whether spaces align the columns, so that the table can be read on a terminal too.
    """
    if labels is None:
        return [_line(heads), f"|{'---|' * len(heads)}", *map(_line, rows)]
    if not padded:
        rule = ["---" if i < labels else "---:" for i in range(len(heads))]
        return [_line(cells) for cells in (heads, rule, *rows)]
    widths = [max(3, *(len(line[i]) for line in (heads, *rows))) for i in range(len(heads))]
    rule = ["-" * width if i < labels else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return [_line(_pad(cells, widths, labels)) for cells in (heads, rule, *rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _pad(cells: Sequence[str], widths: Sequence[int], labels: int) -> list[str]:
    pairs = enumerate(zip(cells, widths, strict=True))
    return [text.ljust(width) if i < labels else text.rjust(width) for i, (text, width) in pairs]


def shorten(text: str, limit: int) -> str:
    """`text` on one line of at most `limit` characters, cut between words where it has a space."""
    text = " ".join(text.split())
    if len(text) <= limit:
        return text
    cut = text[: limit - 2]
    return f"{cut.rsplit(' ', 1)[0]} …"


def percent(part: float, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def join_names(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
