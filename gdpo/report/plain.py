"""A table of scores as text for a terminal, from its CSV files."""

from __future__ import annotations

from collections.abc import Sequence

from gdpo.report.sheet import ARROWS

Rows = Sequence[dict[str, str]]


def score_table(parts: dict[str, Rows]) -> str:
    """Scores and retention, mean ± half of the 95% interval, then a line a trained row on what it forgot."""
    scores, kept, changed = parts[""], parts["_retention"], parts["_forgetting"]
    legend = "↑ ↓: significantly above or below Origin (paired bootstrap, Holm); *: best of the trained rows"
    sections = [
        f"Score: percent of items right, mean ±half of the 95% interval. {legend}",
        aligned(scores),
        "Retention: of the items that Origin had right, the percent still right",
        aligned(kept),
        "Forgetting: score after minus before training, percent points [95% interval]",
        "\n".join(map(_summary, changed)),
    ]
    return "\n".join(f"{head}\n{text}\n" for head, text in zip(sections[::2], sections[1::2], strict=True))


def aligned(rows: Rows) -> str:
    """One line a row; a numeric column's interval, mark and star stand beside its mean."""
    keys = [key for key in rows[0] if not key.endswith(("_low", "_high", "_mark", "_best"))] if rows else []
    cells = [keys, *([_cell(row, key) for key in keys] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(keys))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(line.rstrip() for line in lines)


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
