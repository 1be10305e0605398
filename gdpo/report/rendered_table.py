r"""A finished table and its forms, one function each: CSV, Markdown, LaTeX, and plain text for a terminal.

The LaTeX is a booktabs `tabular` to \input, without a preamble.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from gdpo.core.markdown import MARKUP, escape, table_lines

MISSING = "-"
FORMULA_STARTS = tuple("=+-@")  # what a spreadsheet takes for the start of a formula
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
GAP = 2  # spaces between the columns of a table on a terminal

TEXT_ARROWS = {"up": "↑", "down": "↓", "": ""}
LATEX_ARROWS = {"up": r"$\uparrow$", "down": r"$\downarrow$", "": ""}
LATEX_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "±": r"$\pm$", "†": r"\dag{}", "→": r"$\rightarrow$",
}  # fmt: skip


@dataclass(frozen=True)
class TableCell:
    """A cell for people: its text, the direction of its difference (up, down or none), and whether it is the best."""

    text: str
    arrow: str = ""
    best: bool = False


@dataclass(frozen=True)
class RenderedTable:
    """A table for machines (`csv_columns`, `csv_rows`) and the same for people (`heads`, `body`).

    `labels`: how many columns of text come first. `breaks`: the lines of `body` before which a new section begins.
    """

    title: str
    csv_columns: list[str]
    csv_rows: list[dict[str, str]]
    heads: list[str]
    body: list[list[TableCell]]
    labels: int = 2
    breaks: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def texts(self) -> dict[str, str]:
        """File ending -> the file's text."""
        return {".csv": csv_text(self.csv_columns, self.csv_rows), ".md": to_markdown(self), ".tex": to_latex(self)}


def csv_text(columns: Sequence[str], rows: Sequence[dict[str, str]]) -> str:
    """A CSV file's text; a row's missing columns are left empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_markdown(table: RenderedTable) -> str:
    """The table with its columns aligned, so that it can be read on a terminal too, and the notes below it."""

    def cell(entry: TableCell) -> str:
        text = escape(entry.text or MISSING, MARKUP)
        return (f"**{text}**" if entry.best else text) + TEXT_ARROWS[entry.arrow]

    heads = [escape(head, MARKUP) for head in table.heads]
    body = [[cell(entry) for entry in entries] for entries in table.body]
    lines = table_lines(heads, body, table.labels, padded=True)
    return "\n".join([f"# {table.title}", "", *lines, "", *(f"- {note}" for note in table.notes), ""])


def to_latex(table: RenderedTable) -> str:
    """A `tabular` with its title as a comment: labels to the left, numbers to the right, a rule between sections."""

    def cell(entry: TableCell) -> str:
        text = escape_latex(entry.text or MISSING)
        return (rf"\textbf{{{text}}}" if entry.best else text) + LATEX_ARROWS[entry.arrow]

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cells) + r" \\"

    body = []
    for i, entries in enumerate(table.body):
        body += [r"\midrule"] if i in table.breaks else []
        body.append(line([cell(entry) for entry in entries]))
    return "\n".join(
        [
            f"% {' '.join(table.title.split())}",
            rf"\begin{{tabular}}{{{'l' * table.labels}{'r' * (len(table.heads) - table.labels)}}}",
            r"\toprule",
            line([escape_latex(head) for head in table.heads]),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def to_terminal(table: RenderedTable, width: int) -> str:
    """The table as lines of at most `width` characters, without colours or rules; the best cells carry a star.

    What does not fit goes into further blocks, each with the rows' labels. No cell is ever wrapped or cut: a block of
    one column may be wider than `width`.
    """
    from rich.cells import cell_len

    def cell(entry: TableCell) -> str:
        return (entry.text or MISSING) + TEXT_ARROWS[entry.arrow] + "*" * entry.best

    columns = [[head, *(cell(entries[i]) for entries in table.body)] for i, head in enumerate(table.heads)]
    labels, blocks = columns[: table.labels], list[list[list[str]]]()
    for column in columns[table.labels :]:
        widths = [max(map(cell_len, cells)) for cells in (*labels, *(blocks[-1] if blocks else ()), column)]
        if not blocks or sum(widths) + GAP * (len(widths) - 1) > width:
            blocks.append([])
        blocks[-1].append(column)
    return "\n\n".join(_grid([*labels, *block]) for block in blocks)


def _grid(columns: Sequence[Sequence[str]]) -> str:
    """Columns of text side by side, each as wide as its widest cell, by rich; none is read as rich's markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, GAP, 0, 0))
    for _ in columns:
        grid.add_column(no_wrap=True)
    for cells in zip(*columns, strict=True):
        grid.add_row(*map(Text, cells))
    # Wide enough for any table: rich would cut cells to the width of its console.
    console = Console(
        file=io.StringIO(), width=sum(GAP + max(map(len, cells)) * 2 for cells in columns), color_system=None
    )
    with console.capture() as captured:
        console.print(grid)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def escape_latex(text: str) -> str:
    """`text` such that LaTeX prints it as it is."""
    return "".join(LATEX_SPECIAL.get(character, character) for character in text)


def escape_formula(text: str) -> str:
    """`text` of a data set or a model in a CSV's cell, with an apostrophe before what a spreadsheet would calculate.

    As OWASP advises against CSV injection; a number such as -3 is no formula and stays as it is.
    """
    return f"'{text}" if text.lstrip()[:1] in FORMULA_STARTS and not NUMBER.fullmatch(text.strip()) else text


def number(value: float | None, digits: int = 2) -> str:
    """Rounded, without a minus before zero; empty for None."""
    return "" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"
