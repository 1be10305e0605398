"""The page's data but for items: tables of scores with every difference, other tables, claims, figures and runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gdpo.config.layout import Layout, origin
from gdpo.core.files import read_csv
from gdpo.core.provenance import provenance_path
from gdpo.core.result_files import Provenance, read_stored
from gdpo.report import figures, score_tables
from gdpo.report.bootstrap import interval
from gdpo.report.claims import rule
from gdpo.report.explorer.items import Chunk, shown_trainsets
from gdpo.report.figures import settings as figure_settings
from gdpo.report.score_tables import Cells, Estimate, TableRow
from gdpo.report.scores import Scores
from gdpo.report.tables import Column, columns, is_origin, row_title

CLAIMS, COST = "claims.csv", "cost.csv"
DIGITS = 2  # as the tables' CSV
FIRST = "table2"  # shown first, where the scale has it: the average over all benchmarks


def parts(scores: Scores, palette: Sequence[str]) -> Iterator[Chunk]:
    """(name, value) of each script below data/ but the items'."""
    layout = scores.layout
    yield "scale", scale_part(layout, palette)
    for name, table in layout.scale.tables.items():
        yield f"tables/{name}", score_part(scores, name) if table.kind == "scores" else plain_part(layout, name)
    yield "claims", claims_part(layout)
    yield "fronts", fronts_part(layout)
    yield "runs", {"runs": csv_part(layout.runs), "cost": csv_part(layout.root / COST)}


def codes(layout: Layout) -> list[str]:
    """The versions and commits of the code that made the tables and the claims, each once."""
    made = [layout.table(name) for name in layout.scale.tables] + [layout.root / CLAIMS]
    records = [provenance_path(path) for path in made]
    return sorted({read_stored(path, Provenance).get("code", "") for path in records if path.exists()} - {""})


def scale_part(layout: Layout, palette: Sequence[str]) -> dict[str, Any]:
    """What the page needs to begin: the names of all that it can load."""
    scale = layout.scale
    known = figure_settings.known(scale)
    return {
        "scale": scale.name,
        "palette": list(palette),
        "first": FIRST if FIRST in scale.tables else next(iter(scale.tables), ""),
        "tables": [{"name": n, "title": t.title, "kind": t.kind} for n, t in scale.tables.items()],
        "figures": [
            {"name": name, "title": known[name].title, "caption": known[name].caption} for name in figures.names(scale)
        ],
        "trainsets": [{"name": name, "title": scale.trainset(name).display} for name in shown_trainsets(layout)],
    }


def score_part(scores: Scores, name: str) -> dict[str, Any]:
    """A table of scores: each cell's score and retention, and the difference of every two rows with its interval."""
    layout = scores.layout
    table = layout.scale.tables[name]
    lines, shown = score_tables.table_rows(layout, table), columns(layout, table)
    changed = score_tables.differences(scores, name)
    return {
        "title": table.title,
        "columns": [{"key": c.key, "title": c.title, "benchmarks": c.benchmarks} for c in shown],
        "rows": [_row(layout, line) | {"series": _series(layout, lines, line)} for line in lines],
        "score": _cells(score_tables.estimates(scores, name), lines, shown),
        "retention": _cells(score_tables.retention(scores, name), lines, shown),
        "marks": [[_mark(changed.get((line, c.key))) for c in shown] for line in lines],
        "differences": _differences(scores, lines, shown),
        "notes": [*score_tables.notes(layout, name, "", len(changed)), *score_tables.dropped_notes(layout, table)],
    }


def _row(layout: Layout, line: TableRow) -> dict[str, Any]:
    [before] = origin(line.student)
    return {
        "student": layout.scale.model(line.student).display,
        "title": row_title(layout.scale, line.cell),
        "origin": is_origin(line.cell),
        "run": str(line.runs[0]),
        "before": str(before),
        "seed": line.runs[0].seed,
        "seeds": len(line.runs),
    }


def _series(layout: Layout, lines: Sequence[TableRow], line: TableRow) -> int:
    """The place of a row's title among the trained rows, by which figures colour it; -1 of the untrained student."""
    trained = [row_title(layout.scale, one.cell) for one in lines if not is_origin(one.cell)]
    return -1 if is_origin(line.cell) else list(dict.fromkeys(trained)).index(row_title(layout.scale, line.cell))


def _cells(found: Cells, lines: Sequence[TableRow], shown: Sequence[Column]) -> list[list[list[float] | None]]:
    return [[_numbers(found.get((line, column.key))) for column in shown] for line in lines]


def _numbers(cell: Estimate | None) -> list[float] | None:
    return None if cell is None else rounded(cell.mean, cell.low, cell.high)


def _mark(cell: Estimate | None) -> int:
    """1 and -1: significantly above and below the untrained student, as the tables' arrows."""
    return 0 if cell is None else {"up": 1, "down": -1}.get(cell.direction, 0)


def _differences(
    scores: Scores, lines: Sequence[TableRow], shown: Sequence[Column]
) -> list[list[list[list[float] | None]]]:
    """[i][j - i - 1][column]: row j minus row i in points, with its 95% interval by the paired bootstrap."""
    found = []
    for i, base in enumerate(lines):
        after = [scores_of(scores, line, base, shown) for line in lines[i + 1 :]]
        found.append(after)
    return found


def scores_of(scores: Scores, line: TableRow, base: TableRow, shown: Sequence[Column]) -> list[list[float] | None]:
    """The difference of two rows in each column; None where one of them has no score there."""
    found: list[list[float] | None] = []
    for column in shown:
        change = scores.difference(line.runs, base.runs, column.benchmarks)
        found.append(None if change is None else rounded(change[0], *interval(change[1])))
    return found


def rounded(*numbers: float) -> list[float]:
    return [round(float(number), DIGITS) + 0.0 for number in numbers]  # + 0.0: no minus before a zero


def plain_part(layout: Layout, name: str) -> dict[str, Any]:
    """A table of another kind, as its CSV is."""
    return {"title": layout.scale.tables[name].title} | csv_part(layout.table(name))


def csv_part(path: Path) -> dict[str, Any]:
    """A CSV file's columns and rows; KEY_low and KEY_high are joined to KEY, whose cell is then [text, low, high]."""
    rows = read_csv(path)
    keys = list(rows[0]) if rows else []
    bounded = {key for key in keys if {f"{key}_low", f"{key}_high"} <= set(keys)}
    joined = {f"{key}_{end}" for key in bounded for end in ("low", "high")}
    kept = [key for key in keys if key not in joined]

    def cell(row: dict[str, str], key: str) -> str | list[str]:
        return [row[key], row[f"{key}_low"], row[f"{key}_high"]] if key in bounded else row[key]

    return {"columns": kept, "rows": [[cell(row, key) for key in kept] for row in rows]}


def claims_part(layout: Layout) -> dict[str, Any]:
    return {"rule": rule(), "claims": read_csv(layout.root / CLAIMS, "id", "statement", "test", "verdict")}


def fronts_part(layout: Layout) -> list[dict[str, Any]]:
    """The figures of forgetting, gain and divergence: each with the numbers that it plots."""
    known = figure_settings.known(layout.scale)
    names = [name for name in figures.names(layout.scale) if known[name].kind == "tradeoff"]
    return [
        {
            "name": name,
            "title": known[name].title,
            "caption": known[name].caption,
            "rows": read_csv(layout.figure(name)),
        }
        for name in names
    ]
