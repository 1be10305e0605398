"""The learning rates that a sweep has chosen on validation items, kept as data in workflow/config/sweep."""

from __future__ import annotations

from pathlib import Path

from gdpo.core.files import read_csv
from gdpo.core.project import CONFIG


def sweep_file(scale: str) -> Path:
    """Where a scale's chosen learning rates are kept as data; written by `gdpo sweep`."""
    return CONFIG / "sweep" / f"{scale}.csv"


SweptCell = tuple[str, str, str]  # student, trainset, method


def swept(scale: str) -> dict[SweptCell, dict[float, float]]:
    """Each swept cell's mean validation score, percent, by learning rate; empty before any sweep."""
    path = sweep_file(scale)
    scores: dict[SweptCell, dict[float, float]] = {}
    for row in read_csv(path) if path.exists() else []:
        cell = (row["student"], row["trainset"], row["method"])
        scores.setdefault(cell, {})[float(row["learning_rate"])] = float(row["validation_mean"])
    return scores


def best_rate(by_rate: dict[float, float]) -> float:
    """The rate with the best score; of equals the smallest."""
    return min(by_rate, key=lambda rate: (-by_rate[rate], rate))


def learning_rates(scale: str) -> dict[SweptCell, float]:
    """(student, trainset, method) -> the learning rate chosen on validation items; empty before any sweep."""
    return {cell: best_rate(by_rate) for cell, by_rate in swept(scale).items()}
