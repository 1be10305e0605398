"""A finished table and its three forms: CSV for machines, Markdown for people, LaTeX for papers."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from gdpo.core.markdown import MARKUP, escape, table_lines
from gdpo.report import latex

ARROWS = {"up": "↑", "down": "↓", "": ""}
MISSING = "-"
FORMULA = tuple("=+-@")  # what a spreadsheet takes for the start of a formula
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Entry:
    """A cell for people: what stands in it, which way it differs, and whether it is the best."""

    text: str
    arrow: str = ""
    best: bool = False

    def markdown(self) -> str:
        text = escape(self.text or MISSING, MARKUP)
        return (f"**{text}**" if self.best else text) + ARROWS[self.arrow]

    def latex(self) -> str:
        text = latex.escape(self.text or MISSING)
        return (latex.bold(text) if self.best else text) + latex.ARROWS[self.arrow]


@dataclass(frozen=True)
class RenderedTable:
    """`rows` under the CSV's columns `header`; `body` is the same for people under `heads`.

    `labels`: how many columns of text come first. `breaks`: the lines of `body` before which a new section begins.
    """

    title: str
    header: list[str]
    rows: list[dict[str, str]]
    heads: list[str]
    body: list[list[Entry]]
    labels: int = 2
    breaks: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def texts(self) -> dict[str, str]:
        """File ending -> the file's text."""
        lines = [[entry.latex() for entry in line] for line in self.body]
        tex = latex.tabular(self.title, self.heads, lines, self.labels, self.breaks)
        return {".csv": csv_text(self.header, self.rows), ".md": self.markdown(), ".tex": tex}

    def markdown(self) -> str:
        """The table with its columns aligned, so that it can be read on a terminal too, and the notes below it."""
        heads = [escape(head, MARKUP) for head in self.heads]
        lines = [[entry.markdown() for entry in line] for line in self.body]
        table = table_lines(heads, lines, self.labels, padded=True)
        return "\n".join([f"# {self.title}", "", *table, "", *(f"- {note}" for note in self.notes), ""])


def inert(text: str) -> str:
    """`text` of a data set or a model in a CSV's cell, with an apostrophe before what a spreadsheet would calculate.

    As OWASP advises against CSV injection; a number such as -3 is no formula and stays as it is.
    """
    return f"'{text}" if text.lstrip()[:1] in FORMULA and not NUMBER.fullmatch(text.strip()) else text


def csv_text(header: Sequence[str], rows: Sequence[dict[str, str]]) -> str:
    """A CSV file's text; a row's missing columns are left empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=header, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def number(value: float | None, digits: int = 2) -> str:
    """Rounded, without a minus before zero; empty for None."""
    return "" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"
