"""Where two texts of one table differ: by row and column in CSV, by line and cell in Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from gdpo.core.errors import UserError

SEPARATORS = {".md": "|", ".tex": "&"}


def differences(path: Path, stored: str, computed: str) -> Iterator[UserError]:
    """Each difference of `stored`, the text of `path`, from `computed`, the text as it is made anew."""
    if stored == computed:
        return
    compare = _cells if path.suffix == ".csv" else _lines
    same_cells = UserError(
        path=path, found="the same cells in other bytes", expected="them as `gdpo table` writes them"
    )
    yield from list(compare(path, stored, computed)) or [same_cells]


def _cells(path: Path, stored: str, computed: str) -> Iterator[UserError]:
    old_rows, new_rows = (list(csv.reader(io.StringIO(text))) for text in (stored, computed))
    heads = new_rows[0]
    if old_rows[:1] != [heads]:
        columns = ", ".join(old_rows[0]) if old_rows else "none"
        yield UserError(path=path, line=1, found=f"columns {columns}", expected=", ".join(heads))
        return
    if len(old_rows) != len(new_rows):
        yield UserError(path=path, found=f"{len(old_rows) - 1} rows", expected=f"{len(new_rows) - 1}")
    labels = _labels(new_rows[1:])
    for number, (old, new) in enumerate(zip(old_rows[1:], new_rows[1:], strict=False), start=2):
        row = f"row {' / '.join(new[:labels])}"
        if len(old) != len(new):
            yield UserError(path=path, line=number, key=row, found=f"{len(old)} cells", expected=f"{len(new)}")
            continue
        for head, old_cell, new_cell in zip(heads, old, new, strict=True):
            if old_cell != new_cell:
                key = f"{row}, column {head}"
                yield UserError(path=path, line=number, key=key, found=f"'{old_cell}'", expected=f"'{new_cell}'")


def _labels(rows: Sequence[Sequence[str]]) -> int:
    """How many leading columns name a row: those before the first that holds a number."""
    columns = list(zip(*rows, strict=False))
    return max(1, next((i for i, column in enumerate(columns) if any(map(_is_number, column))), len(columns)))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _lines(path: Path, stored: str, computed: str) -> Iterator[UserError]:
    old_lines, new_lines = stored.split("\n"), computed.split("\n")
    if len(old_lines) != len(new_lines):
        yield UserError(path=path, found=f"{len(old_lines)} lines", expected=f"{len(new_lines)}")
    separator = SEPARATORS[path.suffix]
    for number, (old, new) in enumerate(zip(old_lines, new_lines, strict=False), start=1):
        if old == new:
            continue
        old_cells, new_cells = ([cell.strip() for cell in line.split(separator)] for line in (old, new))
        pairs = list(zip(old_cells, new_cells, strict=True)) if len(old_cells) == len(new_cells) else []
        for old_cell, new_cell in [pair for pair in pairs if pair[0] != pair[1]] or [(old, new)]:
            yield UserError(path=path, line=number, found=f"'{old_cell}'", expected=f"'{new_cell}'")
