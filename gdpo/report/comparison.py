"""An online and an offline method compared by measurements (paper, table A3): sampling, cost, gradient noise, speed.

The paper compares GRPO and GDPO in words: sampling, gradient variance, convergence, compute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdpo.config.layout import Layout
from gdpo.config.tables import Cell, Table
from gdpo.core.provenance import provenance_path
from gdpo.core.result_files import NoiseResult, Provenance, QuestionOrGroup, TrainLog, read_rows, read_stored
from gdpo.report.bootstrap import interval
from gdpo.report.columns import averaged_columns, paper_columns, unavailable_notes
from gdpo.report.rendered_table import RenderedTable, TableCell, number
from gdpo.report.scores import Bootstrapped, Scores
from gdpo.report.tables import is_origin, row_title, score_files

GAIN_SHARE = 0.9  # "equal validation reward" is at this share of the smaller of the methods' best gains


@dataclass(frozen=True)
class Metric:
    key: str
    title: str
    unit: str
    digits: int


METRICS = (
    Metric("online_completions", "completions sampled while training", "a run", 0),
    Metric("teacher_completions", "completions sampled by the teacher", "once", 0),
    Metric("teacher_seconds", "the teacher's sampling", "s, once", 1),
    Metric("training_seconds", "training", "s", 1),
    Metric("steps", "steps", "a run", 0),
    Metric("gradient_noise", "gradient noise", "share", 2),
    Metric("reached", "seeds that reach the equal reward", "seeds", 0),
    Metric("steps_to_reward", "steps to equal validation reward", "steps", 1),
    Metric("seconds_to_reward", "training to equal validation reward", "s", 1),
    Metric("final_reward", "final validation reward", "of 2", 3),
    Metric("memory", "peak memory above that before training", "MB", 0),
    Metric("score", "test score, average over all benchmarks", "percent", 2),
)


@dataclass(frozen=True)
class Value:
    """A mean with its range: the least and the most over seeds, or a 95% interval."""

    mean: float
    low: float
    high: float


Values = dict[str, Value | None]  # by metric


def inputs(layout: Layout, name: str) -> list[Path]:
    table = layout.scale.tables[name]
    found = score_files(layout, table)
    for student in layout.scale.student_set(table.students):
        for cell in _cells(table):
            found += [layout.run(run) for run in layout.cell_runs(student, cell)]
            found += [layout.noise(student, cell.trainset, cell.method)]
            found += [path] if (path := layout.response_file(cell)) else []
    return list(dict.fromkeys(found))


def _cells(table: Table) -> list[Cell]:
    """The table's trained rows."""
    return [cell for cell in table.rows if not cell.model and not is_origin(cell)]


def memory_increase(logs: Sequence[Mapping[str, Any]]) -> float | None:
    """Peak memory minus that before training, MB, of the first seed: one process trains all, so peaks only grow."""
    memory = logs[0].get("memory_mb")
    return max(0, memory["peak"] - memory["before"]) if memory else None


def spread(values: Sequence[float | None]) -> Value | None:
    """Mean, least and most of the values that are not None; None where all are."""
    known = [float(value) for value in values if value is not None]
    return Value(sum(known) / len(known), min(known), max(known)) if known else None


def equal_reward(watches: Sequence[Sequence[Sequence[Mapping[str, float]]]]) -> float | None:
    """The validation reward that methods are compared at: the untrained student's, plus GAIN_SHARE of the smaller gain.

    `watches` has the validation rewards of each method, seed and step. A method's gain is the mean over seeds of the
    highest reward minus the first. None where a method has no validation rewards or no gain.
    """
    if not watches or not all(curves and all(curves) for curves in watches):
        return None
    rewards = [[[entry["reward"] for entry in curve] for curve in curves] for curves in watches]
    gains = [sum(max(curve) - curve[0] for curve in curves) / len(curves) for curves in rewards]
    starts = [curve[0] for curves in rewards for curve in curves]
    return sum(starts) / len(starts) + GAIN_SHARE * min(gains) if min(gains) > 0 else None


def first_reach(curve: Sequence[Mapping[str, float]], reward: float | None, key: str) -> float | None:
    """`key` (step or seconds) at which the linearly interpolated reward first is `reward`; None where it never is."""
    if reward is None:
        return None
    for i, entry in enumerate(curve):
        if entry["reward"] >= reward:
            if i == 0:
                return entry[key]
            last = curve[i - 1]
            share = (reward - last["reward"]) / (entry["reward"] - last["reward"])
            return last[key] + share * (entry[key] - last[key])
    return None


def metric_values(
    scores: Scores, student: str, cell: Cell, logs: Sequence[Mapping[str, Any]], reward: float | None
) -> Values:
    """Each metric of one row for one student; `logs` are its runs' train.json, one a seed."""
    layout = scores.layout
    runs = layout.cell_runs(student, cell)
    watches = [log.get("watch") or [] for log in logs]
    steps = [first_reach(watch, reward, "step") for watch in watches]
    overall = averaged_columns(layout)
    return {
        "online_completions": spread([log.get("completions") for log in logs]),
        **_teacher_cost(layout, cell),
        "training_seconds": spread([log.get("seconds") for log in logs]),
        "steps": spread([log.get("steps") for log in logs]),
        "gradient_noise": _noise(layout.noise(student, cell.trainset, cell.method)),
        "reached": None if reward is None else spread([sum(step is not None for step in steps)]),
        "steps_to_reward": spread(steps),
        "seconds_to_reward": spread([first_reach(watch, reward, "seconds") for watch in watches]),
        "final_reward": spread([watch[-1]["reward"] if watch else None for watch in watches]),
        "memory": spread([memory_increase(logs)]),
        "score": _interval(scores.bootstrapped_mean(runs, overall)),
    }


def _teacher_cost(layout: Layout, cell: Cell) -> Values:
    """The teacher's completions and seconds, once for all students and seeds; 0 for an online row."""
    if layout.is_online(cell):
        return {"teacher_completions": spread([0]), "teacher_seconds": spread([0])}
    if (responses := layout.response_file(cell)) is None:
        return {"teacher_completions": None, "teacher_seconds": None}
    sampled = sum(len(row["completions"]) - row.get("gold", 0) for row in read_rows(responses, QuestionOrGroup))
    return {"teacher_completions": spread([sampled]), "teacher_seconds": _wall_seconds(provenance_path(responses))}


def _wall_seconds(record: Path) -> Value | None:
    return spread([read_stored(record, Provenance)["wall_seconds"]]) if record.exists() else None


def _noise(path: Path) -> Value | None:
    if not path.exists():
        return None
    found = read_stored(path, NoiseResult)
    if found["noise"] is None:  # too few groups
        return None
    return Value(found["noise"], found["noise_low"], found["noise_high"])


def _interval(found: Bootstrapped | None) -> Value | None:
    if found is None:
        return None
    mean, draws = found
    return Value(mean, *interval(draws))


def texts(scores: Scores, name: str, part: str) -> dict[str, str]:
    """File ending -> text of table `name`."""
    return rendered(scores, name).texts()


def rendered(scores: Scores, name: str) -> RenderedTable:
    """A section a student, a line a metric, a column a method, and the ratio of the first method to the last."""
    layout = scores.layout
    scale, table = layout.scale, layout.scale.tables[name]
    cells = {row_title(scale, cell): cell for cell in _cells(table)}
    rows, body, targets = [], [], []
    for student in scale.student_set(table.students):
        logs = {
            title: [read_stored(layout.run(run) / "train.json", TrainLog) for run in layout.cell_runs(student, cell)]
            for title, cell in cells.items()
        }
        reward = equal_reward([[log.get("watch") or [] for log in found] for found in logs.values()])
        display = scale.model(student).display
        targets.append(f"{display} {number(reward, 3) or 'none'}")
        found = {title: metric_values(scores, student, cell, logs[title], reward) for title, cell in cells.items()}
        for metric in METRICS:
            values = [found[title][metric.key] for title in cells]
            row = {"model": display, "metric": metric.title, "unit": metric.unit, "ratio": number(_ratio(values))}
            for title, value in zip(cells, values, strict=True):
                row |= _csv(title, value, metric.digits)
            rows.append(row)
            shown = [TableCell(_text(value, metric.digits)) for value in values]
            body.append(
                [TableCell(display), TableCell(metric.title), TableCell(metric.unit), *shown, TableCell(row["ratio"])]
            )
    return RenderedTable(
        title=table.title,
        csv_columns=["model", "metric", "unit", *(key for title in cells for key in _csv(title, None, 0)), "ratio"],
        csv_rows=rows,
        heads=["model", "metric", "unit", *cells, "ratio"],
        body=body,
        labels=3,
        breaks=list(range(len(METRICS), len(rows), len(METRICS))),
        notes=_notes(layout, targets),
    )


def _csv(title: str, value: Value | None, digits: int) -> dict[str, str]:
    mean, low, high = (value.mean, value.low, value.high) if value else (None, None, None)
    return {title: number(mean, digits), f"{title}_low": number(low, digits), f"{title}_high": number(high, digits)}


def _text(value: Value | None, digits: int) -> str:
    if value is None or value.low == value.high:
        return number(value.mean if value else None, digits)
    return f"{number(value.mean, digits)} [{number(value.low, digits)}, {number(value.high, digits)}]"


def _ratio(values: Sequence[Value | None]) -> float | None:
    """The first mean divided by the last; None where there are not two, or the last is 0."""
    if len(values) < 2 or values[0] is None or values[-1] is None or not values[-1].mean:
        return None
    return values[0].mean / values[-1].mean


def _notes(layout: Layout, targets: Sequence[str]) -> list[str]:
    scale, watch = layout.scale, layout.scale.watch
    return [
        "Mean over seeds [least, most]; of the gradient noise and the test score [95% bootstrap interval]. ratio: the "
        "first method by the last.",
        "The teacher answers once for all students, methods and seeds: what it samples and its seconds are not in "
        "training's. What a method prepares, an offline loss' pass of the reference for one, is.",
        "Gradient noise: the share of a step's squared gradient that is variance between mini-batches, at the "
        f"untrained student, estimated from mini-batches of {watch.noise_batch_size} questions; 1: nothing in common.",
        f"Equal validation reward: the untrained student's and {GAIN_SHARE} of the smaller of the methods' best gains "
        "(mean over seeds of the highest reward watched less the first); a run reaches it where its rewards, joined by "
        f"straight lines, first do. Means are over the seeds that reach it. Here: {', '.join(targets)}.",
        f"Rewards are of greedy answers to validation questions, every {watch.every} steps, with the clock stopped. "
        "Peak memory is the first seed's.",
        f"Scale: {scale.name}.",
        *unavailable_notes(layout, paper_columns(scale)),
    ]
