"""Where two texts of one table differ: by row and column in CSV, by line and cell in Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

SEPARATORS = {".md": "|", ".tex": "&"}


def differences(path: Path, kept: str, made: str) -> Iterator[str]:
    """A sentence for each difference of `kept`, the text of `path`, from `made`, the text as made anew."""
    if kept == made:
        return
    found = list(_cells(path, kept, made) if path.suffix == ".csv" else _lines(path, kept, made))
    yield from found or [f"{path}: found the same cells in other bytes, expected them as `gdpo table` writes them"]


def _cells(path: Path, kept: str, made: str) -> Iterator[str]:
    found, expected = (list(csv.reader(io.StringIO(text))) for text in (kept, made))
    heads = expected[0]
    if found[:1] != [heads]:
        yield f"{path}, line 1: found columns {', '.join(found[0]) if found else 'none'}, expected {', '.join(heads)}"
        return
    if len(found) != len(expected):
        yield f"{path}: found {len(found) - 1} rows, expected {len(expected) - 1}"
    labels = _labels(expected[1:])
    for number, (old, new) in enumerate(zip(found[1:], expected[1:], strict=False), start=2):
        row = " / ".join(new[:labels])
        if len(old) != len(new):
            yield f"{path}, line {number}, row {row}: found {len(old)} cells, expected {len(new)}"
            continue
        for head, here, there in zip(heads, old, new, strict=True):
            if here != there:
                yield f"{path}, line {number}, row {row}, column {head}: found '{here}', expected '{there}'"


def _labels(rows: Sequence[Sequence[str]]) -> int:
    """How many leading columns name a row: those before the first that holds a number."""
    columns = list(zip(*rows, strict=False))
    return max(1, next((at for at, column in enumerate(columns) if any(map(_is_number, column))), len(columns)))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _lines(path: Path, kept: str, made: str) -> Iterator[str]:
    found, expected = kept.split("\n"), made.split("\n")
    if len(found) != len(expected):
        yield f"{path}: found {len(found)} lines, expected {len(expected)}"
    separator = SEPARATORS[path.suffix]
    for number, (old, new) in enumerate(zip(found, expected, strict=False), start=1):
        if old == new:
            continue
        cells = [[cell.strip() for cell in line.split(separator)] for line in (old, new)]
        pairs = list(zip(*cells, strict=False)) if len(cells[0]) == len(cells[1]) else [(old, new)]
        for here, there in [pair for pair in pairs if pair[0] != pair[1]] or [(old, new)]:
            yield f"{path}, line {number}: found '{here}', expected '{there}'"
