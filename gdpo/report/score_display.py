"""A published table of scores as text for a terminal, from its CSV files: what `gdpo show` prints."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from gdpo.report.columns import DAGGER, EXTRA_NOTE
from gdpo.report.rendered_table import RenderedTable, TableCell, to_terminal

WIDTH = 200  # where there is no terminal: what a file's or a log's reader can still scroll
LABELS = ("model", "row")
BESIDE_MEAN = ("_low", "_high", "_mark", "_best")  # endings of the columns that are shown beside their mean

CsvRows = Sequence[dict[str, str]]


def score_text(parts: Mapping[str, CsvRows], width: int, extra_columns: Collection[str] = ()) -> str:
    """Scores and retention, mean ± half of the 95% interval, then a line a trained row on what it forgot.

    Lines have at most `width` characters, as far as the widest column lets them. Columns that are not the paper's,
    `extra_columns`, carry a dagger.
    """
    legend = "↑ ↓: significantly above or below Origin (paired bootstrap, Holm); *: best of the trained rows"
    legend += f". {EXTRA_NOTE.rstrip('.')}" if extra_columns else ""
    scores, retention = (to_terminal(read_back(parts[part], extra_columns), width) for part in ("", "_retention"))
    sections = {
        f"Score: percent of items right, mean ±half of the 95% interval. {legend}": scores,
        "Retention: of the items that Origin had right, the percent still right": retention,
        "Forgetting: score after minus before training, percent points [95% interval]": "\n".join(
            map(_forgetting_line, parts["_forgetting"])
        ),
    }
    return "\n".join(f"{head}\n{text}\n" for head, text in sections.items())


def read_back(rows: CsvRows, extra_columns: Collection[str] = ()) -> RenderedTable:
    """The table of a CSV file that `gdpo table` wrote: each numeric column's interval, mark and star in one cell."""
    columns = [key for key in rows[0] if not key.endswith(BESIDE_MEAN)] if rows else []
    columns.sort(key=lambda key: key not in LABELS)  # stable: labels first, the others in the file's order
    return RenderedTable(
        title="",
        csv_columns=list(rows[0]) if rows else [],
        csv_rows=list(rows),
        heads=[key + DAGGER * (key in extra_columns) for key in columns],
        body=[[_cell(row, key) for key in columns] for row in rows],
        labels=sum(key in LABELS for key in columns),
    )


def _cell(row: dict[str, str], key: str) -> TableCell:
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    if not low or not high:
        return TableCell(row[key])
    text = f"{row[key]}±{(float(high) - float(low)) / 2:.2f}"
    return TableCell(text, row.get(f"{key}_mark", ""), bool(row.get(f"{key}_best")))


def _forgetting_line(row: dict[str, str]) -> str:
    """What a trained row changed: its averages, or all columns where there is none, and how many benchmarks."""
    numeric = [key.removesuffix("_p") for key in row if key.endswith("_p")]
    averages = [key for key in numeric if key.endswith("_avg")] or numeric
    means = (f"{key} {row[key]} [{row[f'{key}_low']}, {row[f'{key}_high']}]" for key in averages if row[key])
    head = f"{row['model']} {row['row']}: significantly worse on {row['worse']} benchmarks, better on {row['better']}"
    return "; ".join([head, *means])
