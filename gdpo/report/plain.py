"""A table of scores as text for a terminal, from its CSV files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from gdpo.report.columns import DAGGER, OURS
from gdpo.report.sheet import ARROWS

WIDTH = 200  # where there is no terminal: what a file's or a log's reader can still scroll
LABELS = ("model", "row")
Rows = Sequence[dict[str, str]]


def score_table(parts: Mapping[str, Rows], width: int, ours: Collection[str] = ()) -> str:
    """Scores and retention, mean ± half of the 95% interval, then a line a trained row on what it forgot.

    Lines of at most `width` characters, as far as the widest column lets them be; columns `ours` carry a dagger.
    """
    scores, kept, changed = parts[""], parts["_retention"], parts["_forgetting"]
    legend = "↑ ↓: significantly above or below Origin (paired bootstrap, Holm); *: best of the trained rows"
    legend += f". {OURS.rstrip('.')}" if ours else ""
    sections = [
        f"Score: percent of items right, mean ±half of the 95% interval. {legend}",
        aligned(scores, width, ours),
        "Retention: of the items that Origin had right, the percent still right",
        aligned(kept, width, ours),
        "Forgetting: score after minus before training, percent points [95% interval]",
        "\n".join(map(_summary, changed)),
    ]
    return "\n".join(f"{head}\n{text}\n" for head, text in zip(sections[::2], sections[1::2], strict=True))


def aligned(rows: Rows, width: int, ours: Collection[str] = ()) -> str:
    """One line a row; a numeric column's interval, mark and star stand beside its mean.

    What does not fit in `width` goes into further blocks, each with the rows' labels.
    """
    keys = [key for key in rows[0] if not key.endswith(("_low", "_high", "_mark", "_best"))] if rows else []
    columns = {key: [key + DAGGER * (key in ours), *(_cell(row, key) for row in rows)] for key in keys}
    columns = {key: [cell.ljust(max(map(len, cells))) for cell in cells] for key, cells in columns.items()}
    labels = [columns[key] for key in keys if key in LABELS]
    blocks: list[list[list[str]]] = []
    for cells in (columns[key] for key in keys if key not in LABELS):
        if not blocks or sum(len(column[0]) + 2 for column in (*labels, *blocks[-1], cells)) - 2 > width:
            blocks.append([])
        blocks[-1].append(cells)
    lines = [["  ".join(line).rstrip() for line in zip(*labels, *block, strict=True)] for block in blocks]
    return "\n\n".join(map("\n".join, lines))


def _cell(row: dict[str, str], key: str) -> str:
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    if not low or not high:
        return row[key] or "-"
    star = "*" if row.get(f"{key}_best") else ""
    return f"{row[key]}±{(float(high) - float(low)) / 2:.2f}{ARROWS[row.get(f'{key}_mark', '')]}{star}"


def _summary(row: dict[str, str]) -> str:
    """What a trained row changed: its averages, or all columns where there is none, and how many benchmarks."""
    numeric = [key.removesuffix("_p") for key in row if key.endswith("_p")]
    averages = [key for key in numeric if key.endswith("_avg")] or numeric
    means = (f"{key} {row[key]} [{row[f'{key}_low']}, {row[f'{key}_high']}]" for key in averages if row[key])
    head = f"{row['model']} {row['row']}: significantly worse on {row['worse']} benchmarks, better on {row['better']}"
    return "; ".join([head, *means])
