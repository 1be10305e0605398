"""The paper's numbers and this scale's, cell by cell, with command, hardware and time: `gdpo reproduced`.

It has tables 1, 2, A7 and A8. The printed numbers are of the paper's Qwen3-8B, the others of the scale's students: they
are shown together, and are no comparison (`gdpo published` compares what is the same).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from gdpo.config.layout import Layout
from gdpo.config.scale import Scale
from gdpo.config.tables import Table
from gdpo.core.errors import UserError
from gdpo.core.markdown import MARKUP, escape, table_lines
from gdpo.core.result_files import RunScores, read_stored
from gdpo.report import score_tables, trained_runs
from gdpo.report.published import AVERAGES, TABLES, benchmarks_of, names_by_title, published, same_name
from gdpo.report.rendered_table import number
from gdpo.report.score_tables import Estimate, TableRow
from gdpo.report.scores import Scores
from gdpo.report.tables import row_title, score_files

NAMES = ("table1", "table2", "tableA7", "tableA8")
PAPER_MODEL = "Qwen3-8B"  # the one student of which the paper prints these tables' cells
COLUMNS = [
    "table", "model", "row", "column", "paper", "paper_model", "ours", "low", "high", "n", "seeds", "note", "scale",
    "command", "hardware", "seconds",
]  # fmt: skip
HEADS = ["model", "row", "column", "paper", "ours", "n", "seeds", "hardware", "time", "note"]
NOTHING = "No results of this scale are kept yet.\n"

CsvRow = dict[str, str]


def shown(scale: Scale) -> list[str]:
    """The NAMES that the scale has tables of."""
    return [name for name in NAMES if name in scale.tables]


def inputs(layout: Layout) -> list[Path]:
    """Scores and samples of the tables' runs, and the runs themselves."""
    chosen = [layout.scale.tables[name] for name in shown(layout.scale)]
    trained = [layout.run(run) for table in chosen for run in layout.selected_runs(table) if not run.is_origin]
    return list(dict.fromkeys([*(path for table in chosen for path in score_files(layout, table)), *trained]))


def settings(scale: Scale) -> list:
    """What the cells depend on besides `inputs`."""
    chosen = [scale.tables[name] for name in shown(scale)]
    return [chosen, scale.bootstrap_draws, scale.bootstrap_seed, scale.names]


def rows(layout: Layout) -> list[CsvRow]:
    """A row a cell, in percent; `ours` is empty where there is none, and `note` says why.

    `n`: items a column, of an average those of all its columns. `seconds`: training and scoring of the row's runs, all
    columns together.
    """
    scores = Scores(layout)
    return [row for name in shown(layout.scale) for row in _table_rows(scores, name)]


def _table_rows(scores: Scores, name: str) -> list[CsvRow]:
    layout, table = scores.layout, scores.layout.scale.tables[name]
    estimates = score_tables.estimates(scores, name)
    printed = {same_name(p.row): p for p in published() if (p.table, p.model) == (TABLES[name], PAPER_MODEL)}
    found = []
    for line in score_tables.table_rows(layout, table):
        title = row_title(layout.scale, line.cell)
        cells = printed[same_name(title)].cells if same_name(title) in printed else {}
        labels = {"table": name, "model": layout.scale.model(line.student).display, "row": title}
        for column in columns(table):
            row = dict.fromkeys(COLUMNS, "") | labels | {"column": column} | _made(layout, name, line)
            if column in cells:
                row |= {"paper": str(cells[column]), "paper_model": PAPER_MODEL}
            found.append(row | _ours(scores, line, column, estimates))
    return found


def columns(table: Table) -> list[str]:
    """The paper's columns and averages of a table, by the paper's names."""
    averages = [f"{domain}_avg" for domain in table.columns]
    found = [column for average in averages for column in (*AVERAGES[average], average)]
    return [*found, "overall_avg"] if table.overall else found


def _made(layout: Layout, name: str, line: TableRow) -> CsvRow:
    """How a row was made: command, machines, seconds and seeds."""
    scale = layout.scale
    records = [trained_runs.train_record(layout, run) for run in line.runs if not run.is_origin]
    records = list(filter(None, [*records, *(trained_runs.evaluate_record(layout, run) for run in line.runs)]))
    machines = dict.fromkeys(map(trained_runs.machine_name, records))
    seconds = sum(record["wall_seconds"] for record in records)
    limit = f" limit={scale.limit}" if scale.limit else ""
    sharing = " --resources gpu=1" if scale.uses_gpus else ""
    return {
        "scale": scale.name,
        "command": f"snakemake --cores all results/{name}.csv{sharing} --config scale={scale.scale}{limit}",
        "hardware": ", ".join(machines),
        "seconds": f"{seconds:.1f}" if records else "",
        "seeds": "" if line.runs[0].is_origin else " ".join(str(run.seed) for run in line.runs),
    }


def _ours(scores: Scores, line: TableRow, column: str, estimates: Mapping[tuple[TableRow, str], Estimate]) -> CsvRow:
    layout, average = scores.layout, column in AVERAGES
    key = column if average else names_by_title(layout.scale).get(same_name(column), "")
    names = _averaged(layout, column) if average else [key] if key else []
    if not names:
        return {"note": f"scale {layout.scale.name} has no such {'average' if average else 'column'}"}
    estimate = estimates.get((line, key))
    if estimate is None:
        return {"note": _why(layout, line, names)}
    n = scores.item_count(line.runs, names)
    found = {"ours": number(estimate.mean), "low": number(estimate.low), "high": number(estimate.high), "n": str(n)}
    of = len(AVERAGES[column]) if average else 1
    return found | ({"note": f"over {len(names)} of the paper's {of} columns"} if len(names) < of else {})


def _averaged(layout: Layout, column: str) -> list[str]:
    """The benchmarks of an average; none where there are none, or where some are not the paper's."""
    names = benchmarks_of(layout, column)
    known = set(map(same_name, AVERAGES[column]))
    return names if all(same_name(layout.scale.benchmark(name).display) in known for name in names) else []


def _why(layout: Layout, line: TableRow, names: Sequence[str]) -> str:
    """Why a cell of ours is empty: its items cannot be had, or were trained on, or nobody has scored the row yet."""
    empty = layout.unavailable()
    for name in names:
        if name in empty:
            return empty[name]
        for path in (layout.score(run, "test") for run in line.runs):
            if not path.exists():
                return "not made yet"
            if name in (dropped := read_stored(path, RunScores).get("dropped", {})):
                why: str = dropped[name]
                return why
    return "not made yet"


def markdown(scale: Scale, found: Sequence[CsvRow]) -> str:
    """For people: the cells of each table under the command that makes it."""
    return f"# The paper's numbers and ours, scale {scale.name}\n\n{section(found)}"


def section(found: Sequence[CsvRow]) -> str:
    """The tables of cells, as a page of docs/numbers has them; one sentence where there are none."""
    if not found:
        return NOTHING
    blocks = [
        "Scores are in percent; ours has its 95% interval.\n\n"
        f"- paper: as the appendix prints it, of {PAPER_MODEL}. Where ours is another model, neither number\n"
        "  checks the other.\n"
        "- n: items; of an average, the items of all its columns.\n"
        "- time: training and scoring of the row's runs, all columns together.\n"
    ]
    for (table, command), cells in groupby(found, lambda row: (row["table"], row["command"])):
        title = table.replace("table", "Table ")
        lines = table_lines(HEADS, [_cells(row) for row in cells])
        blocks.append("\n".join([f"### {title}", "", f"`{command}`", "", *lines, ""]))
    return "\n".join(blocks)


def _cells(row: CsvRow) -> list[str]:
    column = row["column"].replace("_avg", " avg")
    ours = f"{row['ours']} [{row['low']}, {row['high']}]" if row["ours"] else "-"
    cells = [row["model"], row["row"], column, row["paper"] or "-", ours, row["n"] or "-", row["seeds"] or "none"]
    return [escape(text, MARKUP) for text in (*cells, row["hardware"] or "-", _time(row), row["note"])]


def _time(row: CsvRow) -> str:
    return f"{row['seconds']} s" if row["seconds"] else "-"


def filled(text: str, name: str, found: Sequence[CsvRow]) -> str:
    """`text` with `section` between the marks of scale `name`: reproduced:NAME and /reproduced, each a comment.

    Raises UserError where the marks are not there.
    """
    marks = re.compile(rf"(<!-- reproduced:{re.escape(name)} -->\n).*?(<!-- /reproduced -->)", re.DOTALL)
    if not marks.search(text):
        raise UserError(path="docs", found="no marks", expected=f"<!-- reproduced:{name} --> and <!-- /reproduced -->")
    return marks.sub(lambda match: f"{match[1]}{section(found)}{match[2]}", text)
