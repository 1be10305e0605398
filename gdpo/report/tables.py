"""Tables 1 and 2, and retention, from the items' verdicts: mean and 95% half-width per cell, in percent.

Score: share of items right. Retention: of the items that the untrained student had right, the share that the
trained one still has right.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gdpo.config import Scale
from gdpo.errors import UserError
from gdpo.files import read_json, read_jsonl
from gdpo.layout import Layout, Run
from gdpo.report.bootstrap import interval, redraw
from gdpo.schema import Cell, Table


@dataclass(frozen=True)
class Column:
    """One numeric column: a benchmark, or the average of several (macro, as in the paper)."""

    key: str
    title: str
    benchmarks: tuple[str, ...]


def columns(scale: Scale, table: Table) -> list[Column]:
    """A table's benchmarks by domain, each domain followed by its average, and the overall one where asked."""
    found = []
    for domain in table.columns:
        names = scale.domain_benchmarks(domain)
        found += [Column(name, scale.benchmark(name).display, (name,)) for name in names]
        if len(names) > 1:
            found.append(Column(f"{domain}_avg", f"{domain} avg", tuple(names)))
    if table.overall:
        found.append(Column("overall_avg", "overall avg", tuple(scale.benchmarks)))
    return found


def outcomes(layout: Layout, runs: list[Run], benchmark: str) -> np.ndarray | None:
    """1 where an item is right, shape (seeds, items); None where the column was dropped for these runs."""
    paths = [layout.samples(run, "test") / f"{benchmark}.jsonl" for run in runs]
    if not all(path.exists() for path in paths):
        return None
    rows = [[row["verdict"] == "right" for _, row in read_jsonl(path)] for path in paths]
    if len({len(row) for row in rows}) != 1:
        raise UserError(f"{paths[0]}: expected the same number of items for every seed")
    return np.array(rows, dtype=np.float32)


class Reader:
    """The outcomes behind a scale's cells, each file read once."""

    def __init__(self, layout: Layout):
        self.layout = layout
        self.scale = layout.scale
        self._outcomes: dict[tuple[Run, ...], dict[str, np.ndarray | None]] = {}

    def of(self, runs: list[Run]) -> dict[str, np.ndarray | None]:
        key = tuple(runs)
        if key not in self._outcomes:
            self._outcomes[key] = {name: outcomes(self.layout, runs, name) for name in self.scale.benchmarks}
        return self._outcomes[key]

    def cells(self, found: dict[str, np.ndarray | None], shown: list[Column]) -> dict[str, str]:
        """Each column's mean and half-width in percent, under its key and `KEY_ci`.

        Empty where any benchmark of the column was dropped or has no item. Benchmarks are redrawn once, for
        their own column and for every average they are part of.
        """
        scored = {name: a for name, a in found.items() if a is not None and a.size}
        wanted = dict.fromkeys(name for column in shown for name in column.benchmarks if name in scored)
        draws = {n: redraw(scored[n], self.scale.bootstrap_draws, self.scale.bootstrap_seed, n) for n in wanted}
        cells = {}
        for column in shown:
            mean = half = ""
            if all(name in scored for name in column.benchmarks):
                mean = f"{100 * np.mean([scored[name].mean() for name in column.benchmarks]):.2f}"
                low, high = interval(np.mean([draws[name] for name in column.benchmarks], axis=0))
                half = f"{50 * (high - low):.2f}"
            cells |= {column.key: mean, f"{column.key}_ci": half}
        return cells


def table_rows(layout: Layout, name: str, *, retention: bool = False) -> tuple[list[str], list[dict[str, str]]]:
    """CSV columns and rows of table `name`: each student's rows in order, with n and seeds."""
    scale = layout.scale
    table = scale.tables[name]
    reader = Reader(layout)
    shown = columns(scale, table)
    header = ["model", "row", *(part for c in shown for part in (c.key, f"{c.key}_ci")), "n", "seeds"]
    rows = []
    for student in scale.student_set(table.students):
        origin = reader.of([Run(student, "none", "origin", 0)])
        for cell in table.rows:
            runs = layout.cell_runs(student, cell)
            found = reader.of(runs)
            if retention:
                found = {b: _kept(origin[b], found[b]) for b in found}
            rows.append(_row(reader, student, cell, runs, found, shown))
    return header, rows


def _kept(before: np.ndarray | None, after: np.ndarray | None) -> np.ndarray | None:
    return None if before is None or after is None else after[:, before[0] == 1]


def _row(reader: Reader, student: str, cell: Cell, runs: list[Run], found: dict, shown: list[Column]) -> dict[str, str]:
    row = {"model": reader.scale.model(student).display, "row": row_title(reader.scale, cell)}
    row |= reader.cells(found, shown)
    sizes = {found[b].shape[1] for c in shown for b in c.benchmarks if found[b] is not None}
    row["n"] = _span(sizes)
    row["seeds"] = "none" if cell.method == "origin" else " ".join(str(run.seed) for run in runs)
    return row


def row_title(scale: Scale, cell: Cell) -> str:
    """The row's own title, except that a baseline is called what its training set is called at this scale."""
    return scale.trainset(cell.trainset).display if cell.row == cell.trainset else cell.row


def _span(sizes: Iterable[int]) -> str:
    sizes = sorted(sizes)
    return "" if not sizes else str(sizes[0]) if sizes[0] == sizes[-1] else f"{sizes[0]}-{sizes[-1]}"


def markdown(title: str, shown: list[Column], rows: list[dict[str, str]], notes: list[str]) -> str:
    """The table for people: `mean ± half-width`, one section a student, with the notes below."""
    heads = ["model", "row", *(column.title for column in shown), "n", "seeds"]
    lines = [f"# {title}", "", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in rows:
        cells = [f"{row[c.key]} ± {row[f'{c.key}_ci']}" if row[c.key] else "-" for c in shown]
        lines.append("| " + " | ".join([row["model"], row["row"], *cells, row["n"], row["seeds"]]) + " |")
    return "\n".join([*lines, "", *(f"- {note}" for note in notes), ""])


def notes(scale: Scale, what: str) -> list[str]:
    """What a reader must know to read the table right."""
    return [
        f"{what}, in percent: mean over seeds ± half of the 95% bootstrap interval over seeds and items "
        f"({scale.bootstrap_draws} draws). n: items a column; where two numbers, the smallest and the largest.",
        "A seed covers training and sampling. Pool, base models, teacher, selection and groups are fixed, "
        "so the intervals say nothing about another world, other bases or another teacher.",
        "Learning rates were chosen on validation items, one grid for every cell (workflow/config/sweep), where a "
        "sweep is recorded for this scale; else they are the configuration's own.",
        f"Scale: {scale.name}. Average of averages: macro over the benchmarks, as in the paper.",
    ]


def dropped(layout: Layout, table: str) -> list[str]:
    """A sentence for each column that a run may not be scored on, from the runs' own scores."""
    reasons = {}
    for run in layout.selected_runs(layout.scale.tables[table]):
        for benchmark, why in read_json(layout.score(run, "test")).get("dropped", {}).items():
            reasons[(run.student, run.trainset, benchmark)] = why
    return [f"{s}, {t}: column {b} left empty: {why}" for (s, t, b), why in reasons.items()]
