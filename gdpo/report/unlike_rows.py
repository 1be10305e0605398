"""What makes the rows of a table unlike in more than their name: rates that no sweep chose, unequal numbers of steps.

A row that is added to a table is compared with rows whose learning rate was chosen on validation items, each from one
grid. At a rate of its own, or after more steps, it may gain or lose for that reason alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from statistics import mean

from gdpo.config.layout import Layout
from gdpo.config.learning_rates import learning_rates
from gdpo.config.scale import Scale
from gdpo.config.tables import Cell, Table
from gdpo.core.result_files import TrainLog, read_stored


def notes(layout: Layout, names: Iterable[str]) -> list[str]:
    """A sentence for each way in which trained rows of the tables `names` are unlike, with the tables it holds for."""
    found: dict[str, list[str]] = {}
    for name in names:
        table = layout.scale.tables[name]
        rows = [cell for cell in table.rows if cell.method != "origin" and not cell.model]
        if len(rows) > 1 and table.kind != "cases":
            for sentence in [*_unswept(layout.scale, table, rows), *_steps(layout, table, rows)]:
                found.setdefault(sentence, []).append(name)
    return [f"{', '.join(tables)}: {sentence}" for sentence, tables in found.items()]


def _unswept(scale: Scale, table: Table, rows: list[Cell]) -> list[str]:
    """Rows whose learning rate is the configuration's own, where those of other rows were swept; or that none was."""
    recorded, sentences = learning_rates(scale.scale), []
    students = scale.student_set(table.students)
    if not any((student, cell.trainset, cell.method) in recorded for student in students for cell in rows):
        return [f"no learning rate was swept at scale {scale.scale}; each is the configuration's own"]
    for cell in rows:
        lacking = [s for s in students if (s, cell.trainset, cell.method) not in recorded]
        if lacking:
            rate = f"{scale.methods[cell.method].learning_rate:g}"
            of = ", ".join(scale.model(student).display for student in lacking)
            sentences.append(
                f"the learning rate of '{cell.row}' was not swept for {of}: it is the configuration's {rate}, where "
                "other rows have the best of a grid; the target `sweep` sweeps what is not recorded"
            )
    return sentences


def _steps(layout: Layout, table: Table, rows: list[Cell]) -> list[str]:
    """Rows that train for another number of steps than most of the table's."""
    by_sentence: dict[str, list[str]] = {}
    for student in layout.scale.student_set(table.students):
        steps, how = steps_by_row(layout, student, rows)
        counts = Counter(steps.values())
        usual = max(counts, key=lambda number: (counts[number], number))
        others = [f"'{row}' {number:g}" for row, number in steps.items() if number != usual]
        if others:
            sentence = f"steps of training differ, {how}: {', '.join(others)}, other rows {usual:g}"
            by_sentence.setdefault(sentence, []).append(layout.scale.model(student).display)
    return [f"{sentence} ({', '.join(of)})" for sentence, of in by_sentence.items()]


def steps_by_row(layout: Layout, student: str, rows: list[Cell]) -> tuple[dict[str, float], str]:
    """Steps by a row's title, mean over seeds, and in words where they are from.

    They are counted where every run of the rows has its log, and otherwise what the configuration makes of a full set:
    a set may turn out smaller, and dpo and gdpo leave out groups whose rewards are all equal.
    """
    logs = {cell.row: [layout.run(run) / "train.json" for run in layout.cell_runs(student, cell)] for cell in rows}
    if all(path.exists() for paths in logs.values() for path in paths):
        counted = {row: mean(read_stored(path, TrainLog)["steps"] for path in paths) for row, paths in logs.items()}
        return counted, "as trained"
    return {cell.row: configured_steps(layout.scale, cell) for cell in rows}, "by configuration"


def configured_steps(scale: Scale, cell: Cell) -> int:
    """Steps over a full set: epochs times its questions, of sft its sequences, by the batch."""
    method = scale.methods[cell.method]
    items = _size(scale, cell.trainset) * (method.completions if method.trainer == "sft" else 1)
    return math.ceil(method.epochs * math.ceil(items / method.batch_size))


def _size(scale: Scale, name: str) -> int:
    """The most questions that a training set has: of a part, no more than its whole."""
    trainset = scale.trainset(name)
    return min(trainset.size, _size(scale, trainset.parts[0])) if trainset.select == "part" else trainset.size
