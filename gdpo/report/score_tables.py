"""Tables of scores (paper: tables 1, 2, A1, A2, A5-A12), and of the same runs' retention and forgetting, in percent.

Each cell is a mean over seeds with its 95% interval. Forgetting is the difference from the untrained student, after
minus before, by a paired bootstrap. An arrow marks a difference that is significant after Holm's adjustment over the
table's cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from gdpo.config.layout import Layout, Run, origin
from gdpo.config.tables import Cell, Table
from gdpo.core.result_files import RunScores, read_stored
from gdpo.report.bootstrap import LEVEL, holm, interval, p_value
from gdpo.report.columns import column_notes as column_notes
from gdpo.report.rendered_table import RenderedTable, TableCell, number
from gdpo.report.scores import Bootstrapped, Scores
from gdpo.report.tables import Column, columns, is_origin, row_title, score_files, shown_benchmarks

TITLES = {"": "score", "_retention": "retention", "_forgetting": "forgetting: after minus before"}


@dataclass(frozen=True)
class TableRow:
    """A row of the table for one student: its runs, one a seed."""

    student: str
    cell: Cell
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Estimate:
    """A mean or difference in percent with its 95% interval; `p` is the adjusted p-value of a difference."""

    mean: float
    low: float
    high: float
    p: float = 1.0

    @property
    def direction(self) -> str:
        return "" if self.p >= LEVEL else "up" if self.mean > 0 else "down"


Cells = dict[tuple[TableRow, str], Estimate]  # by row and column key; dropped columns are missing


def inputs(layout: Layout, name: str) -> list[Path]:
    return score_files(layout, layout.scale.tables[name])


def table_rows(layout: Layout, table: Table) -> list[TableRow]:
    students = layout.scale.student_set(table.students)
    return [TableRow(s, cell, tuple(layout.cell_runs(s, cell))) for s in students for cell in table.rows]


def estimates(scores: Scores, name: str) -> Cells:
    """Each cell's score."""
    return _estimates(scores, name, lambda line, names: scores.bootstrapped_mean(line.runs, names))


def retention(scores: Scores, name: str) -> Cells:
    """Each cell's retention: of what the untrained student had right, the percent that is still right."""
    return _estimates(
        scores, name, lambda line, names: scores.bootstrapped_retention(line.runs, origin(line.student), names)
    )


def differences(scores: Scores, name: str) -> Cells:
    """Each trained cell's difference from the untrained student, with p adjusted over all cells of the table."""
    found: Cells = {}
    p_values = []
    for line, column in _rows_and_columns(scores.layout, name):
        changed = scores.difference(line.runs, origin(line.student), column.benchmarks)
        if is_origin(line.cell) or changed is None:
            continue
        mean, draws = changed
        found[line, column.key] = Estimate(mean, *interval(draws))
        p_values.append(p_value(draws))
    adjusted = holm(p_values)
    return {place: replace(cell, p=p) for (place, cell), p in zip(found.items(), adjusted, strict=True)}


def _estimates(scores: Scores, name: str, of: Callable[[TableRow, tuple[str, ...]], Bootstrapped | None]) -> Cells:
    found: Cells = {}
    for line, column in _rows_and_columns(scores.layout, name):
        if (redrawn := of(line, column.benchmarks)) is not None:
            mean, draws = redrawn
            found[line, column.key] = Estimate(mean, *interval(draws))
    return found


def _rows_and_columns(layout: Layout, name: str) -> list[tuple[TableRow, Column]]:
    table = layout.scale.tables[name]
    return [(line, column) for line in table_rows(layout, table) for column in columns(layout, table)]


def texts(scores: Scores, name: str, part: str) -> dict[str, str]:
    """File ending -> text of the scores (`part` empty), the retention or the forgetting of table `name`."""
    return rendered(scores, name, part).texts()


def rendered(scores: Scores, name: str, part: str) -> RenderedTable:
    layout, table = scores.layout, scores.layout.scale.tables[name]
    shown = columns(layout, table)
    changed = {} if part == "_retention" else differences(scores, name)
    cells = changed if part == "_forgetting" else retention(scores, name) if part else estimates(scores, name)
    kept = [line for line in table_rows(layout, table) if not (part == "_forgetting" and is_origin(line.cell))]
    best = _best(kept, shown, cells) if not part else set()
    tail = ["worse", "better", "n", "seeds"] if part == "_forgetting" else ["n", "seeds"]
    rows, body, breaks = [], [], []
    for i, line in enumerate(kept):
        labels = {"model": layout.scale.model(line.student).display, "row": row_title(layout.scale, line.cell)}
        ends = {"n": _span(_sizes(scores, line, shown, part)), "seeds": _seeds(line)} | _counts(line, shown, changed)
        marks = {c.key: changed[line, c.key].direction for c in shown if (line, c.key) in changed}
        row = labels | {key: ends[key] for key in tail}
        for column in shown:
            row |= _csv(cells.get((line, column.key)), column.key, part, marks, (line, column.key) in best)
        rows.append(row)
        entries = [_entry(cells.get((line, c.key)), marks.get(c.key, ""), (line, c.key) in best, part) for c in shown]
        body.append([*map(TableCell, labels.values()), *entries, *(TableCell(ends[key]) for key in tail)])
        if i and kept[i - 1].student != line.student:
            breaks.append(i)
    return RenderedTable(
        title=f"{table.title} ({TITLES[part]})",
        csv_columns=["model", "row", *(key for c in shown for key in _csv(None, c.key, part, {}, False)), *tail],
        csv_rows=rows,
        heads=["model", "row", *(column.title for column in shown), *tail],
        body=body,
        breaks=breaks,
        notes=[
            *notes(layout, name, part, len(changed)),
            *(retention_notes(kept, shown, cells) if part == "_retention" else []),
            *dropped_notes(layout, table),
        ],
    )


def _csv(cell: Estimate | None, key: str, part: str, marks: dict[str, str], best: bool) -> dict[str, str]:
    """A cell under its CSV columns: KEY, KEY_low, KEY_high, and what this part of the table adds."""
    row = {
        f"{key}{end}": number(getattr(cell, of, None)) for end, of in (("", "mean"), ("_low", "low"), ("_high", "high"))
    }
    if not part:
        row |= {f"{key}_mark": marks.get(key, ""), f"{key}_best": "1" if best else ""}
    if part == "_forgetting":
        row[f"{key}_p"] = number(cell.p if cell else None, 4)
    return row


def _entry(cell: Estimate | None, mark: str, best: bool, part: str) -> TableCell:
    if cell is None:
        return TableCell("")
    sign = "+" if part == "_forgetting" and round(cell.mean, 1) > 0 else ""
    text = f"{sign}{number(cell.mean, 1)} [{number(cell.low, 1)}, {number(cell.high, 1)}]"
    return TableCell(text, mark, best)


def _best(kept: list[TableRow], shown: list[Column], cells: Cells) -> set[tuple[TableRow, str]]:
    """The best of each student's trained rows in each column: all those that are equal as printed."""
    best = set()
    for student in dict.fromkeys(line.student for line in kept):
        for column in shown:
            trained = [line for line in kept if line.student == student and not is_origin(line.cell)]
            means = {line: round(cells[line, column.key].mean, 2) for line in trained if (line, column.key) in cells}
            best |= {(line, column.key) for line, mean in means.items() if mean == max(means.values())}
    return best


def _counts(line: TableRow, shown: list[Column], changed: Cells) -> dict[str, str]:
    """How many benchmarks, without averages, got significantly worse and better."""
    found = [changed[line, c.key].direction for c in shown if c.single and (line, c.key) in changed]
    return {"worse": str(found.count("down")), "better": str(found.count("up"))}


def _sizes(scores: Scores, line: TableRow, shown: list[Column], part: str) -> set[int]:
    before = origin(line.student)
    outcomes = [
        scores.retained_outcomes(line.runs, before, name) if part == "_retention" else scores.outcomes(line.runs, name)
        for name in dict.fromkeys(name for column in shown for name in column.benchmarks)
    ]
    return {array.shape[1] for array in outcomes if array is not None}


def _span(sizes: Iterable[int]) -> str:
    sizes = sorted(sizes)
    return "" if not sizes else str(sizes[0]) if sizes[0] == sizes[-1] else f"{sizes[0]}-{sizes[-1]}"


def _seeds(line: TableRow) -> str:
    return "none" if line.runs[0].is_origin else " ".join(str(run.seed) for run in line.runs)


def notes(layout: Layout, name: str, part: str, compared: int) -> list[str]:
    """What a reader must know about the table; `compared`: how many cells were compared with Origin."""
    scale = layout.scale
    draws = scale.bootstrap_draws
    what = {
        "": "Score: share of items right, in percent",
        "_retention": "Retention: of the items that the untrained student had right, the percent still right",
        "_forgetting": "Forgetting: score after training minus the untrained student's before, in percent points",
    }[part]
    marks = {
        "": "↑ ↓: significantly above or below the untrained student. Bold: the best of a student's trained rows.",
        "_forgetting": "↑ ↓: significant. worse, better: how many single benchmarks got significantly so.",
    }
    found = [
        f"{what}: mean over seeds [95% interval by a bootstrap over seeds and items, {draws} draws]. "
        "n: items a column; of two numbers, the fewest and the most."
    ]
    if part in marks:
        test = f"p < {LEVEL} in a paired bootstrap after Holm's adjustment over the table's {compared} comparisons"
        found.append(f"{marks[part]} Significant: {test}.")
        if 2 * compared / (draws + 1) >= LEVEL:
            found.append(f"With {draws} draws none of {compared} differences can be significant.")
    return [
        *found,
        "A seed covers training and sampling. Pool, base models, teacher, selection and groups are fixed, "
        "so the intervals say nothing about another world, other bases or another teacher.",
        "An interval without width means that all items agree, not that nothing is uncertain.",
        "Learning rates were chosen on validation items, one grid for every cell and, where its largest rate was best, "
        "larger ones (workflow/config/sweep), where a sweep is recorded for this scale; else they are the "
        "configuration's own.",
        f"Scale: {scale.name}. Averages: macro over the benchmarks, as in the paper.",
        *column_notes(layout, shown_benchmarks(scale, scale.tables[name])),
    ]


def retention_notes(kept: list[TableRow], shown: list[Column], cells: Cells) -> list[str]:
    """Why an average of retention is empty, where one is."""
    averages = [column.key for column in shown if column.benchmarks and not column.single]
    if all((line, key) in cells for line in kept for key in averages):
        return []
    return ["A retention average is empty where the untrained student had no item of one of its columns right."]


def dropped_notes(layout: Layout, table: Table) -> list[str]:
    """A sentence for each column that a run may not be scored on, from the runs' scores.

    Columns that no run can be scored on have another note (`column_notes`).
    """
    reasons, empty = {}, layout.unavailable()
    for run in layout.selected_runs(table):
        path = layout.score(run, "test")
        for benchmark, why in (read_stored(path, RunScores).get("dropped", {}) if path.exists() else {}).items():
            if benchmark not in empty:
                reasons[(run.student, run.trainset, benchmark)] = why
    return [f"{s}, {t}: column {b} left empty: {why}" for (s, t, b), why in reasons.items()]
