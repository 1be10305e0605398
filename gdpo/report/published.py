"""The numbers that the paper prints (appendix, tables A1, A2, A5 to A12), and their comparison with a scale's.

Source and form: data/README.md. A scale's number is compared with a published one where model, row and benchmark are
the same by their displayed names.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from importlib.resources import files
from pathlib import Path
from typing import get_args

from gdpo.config.layout import Layout
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError
from gdpo.core.files import read_csv
from gdpo.core.markdown import table_lines
from gdpo.core.records import Domain
from gdpo.report.columns import averaged_columns, paper_columns

MATH = ("AIME24", "AMC23", "MATH500", "GSM8K", "OlympiadBench", "Minerva")
GENERAL = ("MMLU", "CommonsenseQA", "GPQA")
SAFETY = ("TrustLLM-Misuse", "TrustLLM-Jailbreak", "StrongReject", "WildJailbreak")
AVERAGES = {"math_avg": MATH, "general_avg": GENERAL, "safety_avg": SAFETY, "overall_avg": MATH + GENERAL + SAFETY}
# One thing that has two names, here or in the paper: by the letters and digits of each.
ALIASES = {"gpqadiamond": "gpqa", "star1k": "star1", "metagdpo": "gdpo", "qwen2532binstructfamily": "qwen2532binstruct"}
# Which published table holds a table of ours; of tables 1 and 2 the appendix repeats two rows in A7 and A8.
PAIRS = {1: 2, 5: 6, 7: 8, 9: 10, 11: 12}
TABLES = {f"tableA{n}": f"A{first}+A{second}" for first, second in PAIRS.items() for n in (first, second)}
TABLES |= {"table1": "A7+A8", "table2": "A7+A8"}


@dataclass(frozen=True)
class PublishedRow:
    """One printed row: benchmark or average -> the number as printed, in percent."""

    table: str
    model: str
    row: str
    cells: Mapping[str, Decimal]


@dataclass(frozen=True)
class ComparedNumber:
    """A published number and this scale's, in percent."""

    table: str
    model: str
    row: str
    column: str
    published: Decimal
    ours: float

    @property
    def difference(self) -> float:
        """This scale's number minus the published one, in points."""
        return self.ours - float(self.published)


def published(path: Path | None = None) -> list[PublishedRow]:
    """Every printed row, in the paper's order. Raises UserError where a cell of the file is no number."""
    source = path or files("gdpo.report") / "data" / "published.csv"
    with source.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [PublishedRow(row["table"], row["model"], row["row"], _cells(source.name, row)) for row in rows]


def _cells(file: str, row: Mapping[str, str]) -> dict[str, Decimal]:
    cells = {}
    for column in (*MATH, *GENERAL, *SAFETY, *AVERAGES):
        try:
            cells[column] = Decimal(row[column])
        except (KeyError, TypeError, InvalidOperation):
            place = f"{row.get('table')} {row.get('row')}, {column}"
            raise UserError(path=file, key=place, found=repr(row.get(column)), expected="a number in percent") from None
    return cells


def same_name(name: str) -> str:
    """What two displayed names of one thing have in common: 'STAR-1K' and 'STAR-1', 'StrongReject', 'StrongREJECT'."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return ALIASES.get(plain, plain)


def compare(layout: Layout, table: str, rows: Iterable[Mapping[str, str]]) -> list[ComparedNumber]:
    """Published numbers beside those of `table`'s rows as its CSV has them: model, row, a mean under each column's key.

    Empty where nothing is the same: another scale's models, or a table of which the paper prints no numbers.
    """
    printed = {(same_name(p.model), same_name(p.row)): p for p in published() if p.table == TABLES.get(table)}
    keys = names_by_title(layout.scale)
    keys |= {same_name(average): average for average in AVERAGES}
    found = []
    for row in rows:
        match = printed.get((same_name(row["model"]), same_name(row["row"])))
        if match is None:
            continue
        for column, number in match.cells.items():
            ours = row.get(keys.get(same_name(column), ""), "")
            if ours and (column not in AVERAGES or _has_all(layout, column)):
                found.append(ComparedNumber(table, match.model, match.row, column, number, float(ours)))
    return found


def names_by_title(scale: Scale) -> dict[str, str]:
    """The scale's name of each of its columns that the paper has, by the `same_name` of what it is called."""
    return {same_name(scale.benchmark(name).display): name for name in paper_columns(scale)}


def benchmarks_of(layout: Layout, average: str) -> list[str]:
    """The scale's benchmarks that `average`, one of AVERAGES, is over."""
    of = average.removesuffix("_avg")
    return averaged_columns(layout, next((domain for domain in get_args(Domain) if domain == of), None))


def _has_all(layout: Layout, average: str) -> bool:
    """Whether the scale's average is over the paper's benchmarks, and so the same thing."""
    ours = [layout.scale.benchmark(name).display for name in benchmarks_of(layout, average)]
    return sorted(map(same_name, ours)) == sorted(map(same_name, AVERAGES[average]))


def inputs(layout: Layout) -> list[Path]:
    """The tables that have published numbers."""
    return [layout.table(name) for name, table in layout.scale.tables.items() if name in TABLES and table.rows]


def compare_all(layout: Layout) -> list[ComparedNumber]:
    """`beside` over every table of the scale that has been made."""
    made = [path for path in inputs(layout) if path.exists()]
    return [pair for path in made for pair in compare(layout, path.stem, read_csv(path, "model", "row"))]


COLUMNS = ["table", "model", "row", "column", "published", "ours", "difference"]


def rows(pairs: Iterable[ComparedNumber]) -> list[dict[str, str]]:
    """For CSV: one row a number, in percent and points."""
    return [
        {key: str(getattr(pair, key)) for key in COLUMNS[:5]}
        | {"ours": f"{pair.ours:.2f}", "difference": f"{pair.difference:+.2f}"}
        for pair in pairs
    ]


def markdown(scale: Scale, pairs: list[ComparedNumber]) -> str:
    """For people; one sentence where the scale has no model, row and benchmark of the paper's."""
    title = f"# Published numbers and ours, scale {scale.name}\n\n"
    if not pairs:
        return f"{title}No model of scale {scale.name} is one of the paper's: there is nothing to compare.\n"
    lines = table_lines(COLUMNS, [list(row.values()) for row in rows(pairs)])
    return title + "\n".join(lines) + "\n\nIn percent; the difference is ours minus the published number, in points.\n"
